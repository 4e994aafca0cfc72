// Package browsertest tests the page of package inspect in a real browser. It is a module
// of its own, not published, so that nobody else depends on the library that drives one.
//
// Its tests need Chromium or Chrome, and are skipped without one. The pictures in docs/images
// are made by
//
//	go test -run Screenshots -screenshots ../../docs/images
package browsertest
