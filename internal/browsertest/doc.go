// Package browsertest tests the page of package inspect in a real browser. It is a module of
// its own, not published, so that no user depends on the library that drives the browser.
//
// Its tests need Chromium or Chrome, and are skipped without one. To make the pictures in
// docs/images:
//
//	go test -run Screenshots -screenshots ../../docs/images
package browsertest
