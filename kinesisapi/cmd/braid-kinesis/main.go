// Braid-kinesis serves the streams of a directory, or streams in memory, as Amazon Kinesis
// does, to programs in any language:
//
//	go run github.com/braidstream/braid/kinesisapi/cmd/braid-kinesis -stream orders:4
//	AWS_ENDPOINT_URL_KINESIS=http://localhost:4567 aws kinesis list-streams
//
// At start it prints the settings for the SDKs. braid-kinesis -h lists its options; the
// README beside this file explains them.
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
