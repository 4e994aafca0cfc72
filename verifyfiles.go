package braid

import (
	"cmp"
	"context"
	"fmt"
)

// This file verifies the files below the rows, against the sums that were made when they
// were written: that finds damage where no reader looks, such as in what was trimmed and
// not yet removed, and names the file. What was lost with it the other steps find.

// verifyFiles verifies the files. They are read on a goroutine of its own, for a stalled
// disk may hold a read for longer than the caller waits: then the goroutine ends when the
// disk answers, and Close waits for it. It is never more than one piece ahead.
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
