// Braid inspects and changes the streams of a directory or of a live program:
//
//	go install github.com/braidstream/braid/cmd/braid@latest
//	braid --dir data ls
//	braid --url http://localhost:8080/braid tail -f orders
//
// braid help lists its verbs, and docs/command.md in the repository shows each of them
// with its output.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
