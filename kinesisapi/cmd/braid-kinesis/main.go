// Braid-kinesis serves the streams of a directory, or of memory, as Amazon Kinesis
// does, to programs in any language:
//
//	go run github.com/braidstream/braid/kinesisapi/cmd/braid-kinesis -stream orders:4
//	AWS_ENDPOINT_URL_KINESIS=http://localhost:4567 aws kinesis list-streams
//
// It says what to give to the SDKs when it starts. braid-kinesis -h lists its
// options; the README beside this file says more.
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
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
