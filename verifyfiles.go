package braid

import (
	"cmp"
	"context"
	"fmt"
)

// This file verifies the database's files against the checksums that were made when they were
// written. That finds damage where no reader looks, such as in records that are trimmed but
// not yet removed, and names the file. The other steps find which data is lost.

// verifyFiles verifies the files. It reads them on another goroutine, because a stalled disk
// may hold a read for longer than the caller waits. The goroutine then ends when the disk
// answers, and Close waits for it. It is at most one piece ahead.
func (v *verifier) verifyFiles() error {
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel()
	type verified struct {
		file   string
		damage error
	}
	pieces, files, result := make(chan int), make(chan verified), make(chan error, 1)
	pace := func(bytes int) error {
		select {
		case pieces <- bytes:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	go func() {
		result <- v.db.store.VerifyFiles(ctx, pace, func(file string, damage error) {
			select {
			case files <- verified{file, damage}:
			case <-ctx.Done():
			}
		})
	}()
	for {
		select {
		case bytes := <-pieces:
			v.report.FileBytes += int64(bytes)
			if err := v.paced(int64(bytes)); err != nil {
				return err
			}
		case f := <-files:
			v.report.Files++
			if f.damage == nil {
				continue
			}
			if !isDamage(f.damage) {
				return fmt.Errorf("%s cannot be read: %w", f.file, f.damage)
			}
			v.found(VerifyError{Kind: "file", File: f.file}, fileDamage(f.damage))
		case err := <-result:
			return cmp.Or(v.goesOn(), err)
		case <-ctx.Done():
			return v.goesOn()
		case <-v.db.life.Done():
			return v.goesOn()
		}
	}
}
