// Command vet runs the checks of go vet on packages that it type-checks from their source. So it
// vets for another platform without compiling the standard library and all dependencies for
// that platform, which takes ten times as long:
//
//	GOOS=windows GOARCH=amd64 vet ./...
package main

import (
	"golang.org/x/tools/go/analysis/multichecker"
	"golang.org/x/tools/go/analysis/suite/vet"
)

func main() { multichecker.Main(vet.Suite...) }
