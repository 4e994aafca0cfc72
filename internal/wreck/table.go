package wreck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A table has blocks of rows one after the other, then metadata, and at its end a footer with
// the place of the index. A block is followed by one byte for its compression, and a checksum
// of four bytes.
const (
	tableMagic   = "\xf0\x9f\xaa\xb3\xf0\x9f\xaa\xb3"
	trailerBytes = block.TrailerLen

	// keyBundle is the parameter of Pebble's default schema of data blocks.
	keyBundle = 16

	// Blocks of rows and of an index differ in their number of columns.
	dataColumns  = 7
	indexColumns = 4

	// maxBlockBytes bounds the length of a block that is believed.
	maxBlockBytes = 1 << 30
)

// footerBytes has the length of the footer, by the version of the table.
var footerBytes = map[uint32]int{6: 57, 7: 61}

// dataSchema says how the columns of a data block form a key.
var dataSchema = colblk.DefaultKeySchema(pebble.DefaultComparer, keyBundle)

// dataBlock is the place of a block of rows.
type dataBlock struct {
	offset, length int64  // without the trailer
	last           []byte // its last key, or a key between that and the next block's first; nil if unknown
}

// Table is a table that is open for reading.
type Table struct {
	w      *Wreck
	f      File
	file   vfs.File
	blocks []dataBlock // in the order of their keys
	lost   []Place     // the damage that OpenTable has found

	raw, plain []byte
}

// OpenTable opens a table. If the index cannot be read, it finds the blocks from the beginning
// of the table, as far as they follow each other. Its error is that of opening the file.
func (w *Wreck) OpenTable(f File) (*Table, error) {
	file, err := w.fs.Open(w.path(f.Name))
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f.Size = info.Size()
	t := &Table{w: w, f: f, file: file}
	err = guard(t.readIndex)
	if err == nil {
		return t, nil
	}
	t.scan(err)
	return t, nil
}

// Close ends the use of the table.
func (t *Table) Close() error { return t.file.Close() }

// readIndex finds the blocks with the index.
func (t *Table) readIndex() error {
	at, err := t.indexHandle()
	if err != nil {
		return err
	}
	t.blocks = nil
	return t.addIndex(at, 0)
}

// indexHandle returns the place of the index, from the footer.
func (t *Table) indexHandle() (at block.Handle, err error) {
	const tail = 4 + len(tableMagic) // version and magic
	buf := make([]byte, min(t.f.Size, 61))
	if err := t.readAt(buf, t.f.Size-int64(len(buf))); err != nil {
		return at, err
	}
	if len(buf) < tail || string(buf[len(buf)-len(tableMagic):]) != tableMagic {
		return at, damaged("the table does not end as one does")
	}
	version := little32(buf[len(buf)-tail:])
	n := footerBytes[version]
	if n == 0 || n > len(buf) {
		return at, damaged("the table has version %d", version)
	}
	footer := buf[len(buf)-n:]
	sum := n - tail - 4
	computed := crc32.Update(crc32.Checksum(footer[:sum], castagnoli), castagnoli, footer[sum+4:])
	if mask(computed) != little32(footer[sum:]) || footer[0] != byte(block.ChecksumTypeCRC32c) {
		return at, damaged("the checksum of the table's footer does not match")
	}
	_, skip := block.DecodeHandle(footer[1:])
	at, n = block.DecodeHandle(footer[1+skip:])
	if n == 0 {
		return at, damaged("the table's footer is malformed")
	}
	return at, nil
}

// addIndex adds the blocks of an index, which may point to other indexes.
func (t *Table) addIndex(at block.Handle, depth int) error {
	index, err := t.readBlock(int64(at.Offset), int64(at.Length))
	if err != nil {
		return err
	}
	if columns(index) != indexColumns || depth > 1 {
		return damaged("there is no index where one should be")
	}
	index = bytes.Clone(index) // the next block is read into the same memory
	var it colblk.IndexIter
	if err := it.Init(pebble.DefaultComparer, index, block.NoTransforms); err != nil {
		return err
	}
	for i, ok := 0, it.First(); ok; i, ok = i+1, it.Next() {
		h, err := it.BlockHandleWithProperties()
		if err != nil {
			return err
		}
		if i == 0 && depth == 0 && t.leadsToIndex(h.Handle) {
			return t.addIndexes(&it)
		}
		t.blocks = append(t.blocks, dataBlock{int64(h.Offset), int64(h.Length), bytes.Clone(it.Separator())})
	}
	return nil
}

// leadsToIndex reports whether the block at a place is another index, and not a block of rows.
func (t *Table) leadsToIndex(at block.Handle) bool {
	b, err := t.readBlock(int64(at.Offset), int64(at.Length))
	return err == nil && columns(b) == indexColumns
}

// addIndexes adds the blocks of all indexes that one points to.
func (t *Table) addIndexes(it *colblk.IndexIter) error {
	for ok := it.First(); ok; ok = it.Next() {
		h, err := it.BlockHandleWithProperties()
		if err == nil {
			err = t.addIndex(h.Handle, 1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// columns returns the number of columns of a block.
func columns(b []byte) int {
	const custom = 4 // the length of the additional header of a block of rows
	for _, at := range []int{0, custom} {
		if len(b) >= at+7 && b[at] == byte(colblk.Version1) {
			if n := int(b[at+1]) | int(b[at+2])<<8; n == indexColumns && at == 0 || n == dataColumns && at == custom {
				return n
			}
		}
	}
	return 0
}

// scan finds the blocks without the index: they follow each other from the beginning of the
// table, and each ends where its checksum matches. why is the damage of the index.
func (t *Table) scan(why error) {
	file := make([]byte, t.f.Size)
	_ = readPages(t.file, file, 0) // where the disk fails, no checksum matches
	t.blocks = nil
	var at int64
	whole := false // whether the metadata after the rows was found
	for {
		n := blockLength(file[at:])
		if n < 0 {
			break
		}
		b, err := t.readBlock(at, n)
		if err != nil {
			break
		}
		if whole = columns(b) != dataColumns; whole {
			break
		}
		t.blocks = append(t.blocks, dataBlock{offset: at, length: n})
		at += n + trailerBytes
	}
	place := Place{File: t.f.Name, Offset: at, Bytes: t.f.Size - at, Err: why}
	if whole {
		place.Offset, place.Bytes = t.f.Size-min(t.f.Size, 61), min(t.f.Size, 61)
		place.Through = []byte{} // no row is lost
	}
	t.lost = append(t.lost, place)
}

// blockLength returns the length of the block at the beginning of b, without its trailer; -1 if
// no checksum matches.
func blockLength(b []byte) int64 {
	var crc uint32
	for i := 0; i+trailerBytes <= len(b) && i < maxBlockBytes; i++ {
		crc = crc32.Update(crc, castagnoli, b[i:i+1])
		if compression(b[i]) && i > 0 && mask(crc) == little32(b[i+1:]) {
			return int64(i)
		}
	}
	return -1
}

// compression reports whether a byte is a valid compression of a block.
func compression(b byte) bool {
	switch block.CompressionIndicator(b) {
	case block.NoCompressionIndicator, block.SnappyCompressionIndicator, block.ZstdCompressionIndicator, block.MinLZCompressionIndicator:
		return true
	default:
		return false
	}
}

// readAt fills b from an offset. A read past the end of the file is damage.
func (t *Table) readAt(b []byte, offset int64) error {
	if offset < 0 || offset > t.f.Size-int64(len(b)) {
		return damaged("%d bytes at offset %d, where the file has %d", len(b), offset, t.f.Size)
	}
	_, err := t.file.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		return damaged("the file ends within %d bytes at offset %d", len(b), offset)
	}
	return err
}

// readBlock returns a block, verified and decompressed. It is valid until the next call.
func (t *Table) readBlock(offset, length int64) ([]byte, error) {
	if length < 0 || length > maxBlockBytes || offset < 0 {
		return nil, damaged("a block of %d bytes", length)
	}
	t.raw = grown(t.raw, int(length)+trailerBytes)
	if err := t.readAt(t.raw, offset); err != nil {
		return nil, err
	}
	kind := t.raw[length]
	if !compression(kind) || mask(crc32.Checksum(t.raw[:length+1], castagnoli)) != little32(t.raw[length+1:]) {
		return nil, damaged("the checksum of the block of %d bytes at offset %d does not match", length, offset)
	}
	packed := t.raw[:length]
	if block.CompressionIndicator(kind) == block.NoCompressionIndicator {
		t.plain = grown(t.plain, len(packed)) // decoders need aligned memory
		copy(t.plain, packed)
		return t.plain, nil
	}
	err := guard(func() error {
		n, err := block.DecompressedLen(block.CompressionIndicator(kind), packed)
		if err != nil || n > maxBlockBytes {
			return damaged("a block does not decompress: %d bytes, %v", n, err)
		}
		t.plain = grown(t.plain, n)
		return block.DecompressInto(block.CompressionIndicator(kind), packed, t.plain)
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return t.plain, err
}

// grown returns a slice of n bytes, in the memory of b if that is large enough. It is aligned
// like every slice of its size.
func grown(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, n+n/4+8)
	}
	return b[:n]
}

// Bounds returns a lower and an upper bound of the keys of the table, nil if unknown.
func (t *Table) Bounds() (first, last []byte) {
	if n := len(t.blocks); n > 0 {
		last = t.blocks[n-1].last
		var stop error = errors.New("the first row is enough")
		_ = guard(func() error {
			return t.rows(t.blocks[0], func(c Change) error { first = bytes.Clone(c.Key); return stop })
		})
	}
	return first, last
}

// Read passes on all rows of the table, block by block, and then the places that are lost. A
// damaged block loses its own rows and no others.
func (t *Table) Read(ctx context.Context, v Visitor) error {
	var after []byte // the last key that was read
	for i := range t.blocks {
		if err := ended(ctx); err != nil {
			return err
		}
		b := &t.blocks[i]
		var refused error // of the visitor
		err := guard(func() error {
			return t.rows(*b, func(c Change) error {
				after = append(after[:0], c.Key...)
				refused = v.Change(c)
				return refused
			})
		})
		if refused != nil {
			return refused
		}
		if err != nil {
			lost := Place{
				File: t.f.Name, Offset: b.offset, Bytes: b.length + trailerBytes, Err: err,
				After: bytes.Clone(after), Through: b.last,
			}
			if err := v.Lost(t.bounded(lost)); err != nil {
				return err
			}
		}
		if b.last != nil {
			after = append(after[:0], b.last...)
		}
	}
	for _, lost := range t.lost {
		lost.After = bytes.Clone(after)
		if err := v.Lost(t.bounded(lost)); err != nil {
			return err
		}
	}
	return nil
}

// bounded bounds a place by the manifest's bounds of the table, where nothing else does.
func (t *Table) bounded(p Place) Place {
	if p.After == nil {
		p.After = t.f.After
	}
	if p.Through == nil {
		p.Through = t.f.Through
	}
	return p
}

// rows calls fn for each row of a block.
func (t *Table) rows(b dataBlock, fn func(Change) error) error {
	data, err := t.readBlock(b.offset, b.length)
	if err != nil {
		return err
	}
	if columns(data) != dataColumns {
		return damaged("there are no rows in the block at offset %d", b.offset)
	}
	var decoder colblk.DataBlockDecoder
	decoder.Init(&dataSchema, data)
	var it colblk.DataBlockIter
	it.InitOnce(&dataSchema, pebble.DefaultComparer, nil) // all values are in the block
	if err := it.Init(&decoder, block.NoTransforms); err != nil {
		return err
	}
	defer it.Close()
	for kv := it.First(); kv != nil; kv = it.Next() {
		c := Change{Key: kv.K.UserKey, Seq: uint64(kv.SeqNum())}
		switch kv.Kind() {
		case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete:
			c.Value = kv.InPlaceValue()
		case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, pebble.InternalKeyKindDeleteSized:
			c.Deleted = true
		default:
			continue
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	return it.Error()
}

// ReadDeletions passes on the deletions of key ranges in the table.
func (t *Table) ReadDeletions(v Visitor) error {
	var refused error // of the visitor
	err := guard(func() error {
		readable, err := sstable.NewSimpleReadable(openFile{t.file})
		if err != nil {
			return err
		}
		reader, err := sstable.NewReader(context.Background(), readable, sstable.ReaderOptions{
			Comparer:   pebble.DefaultComparer,
			KeySchemas: sstable.MakeKeySchemas(&dataSchema),
		})
		if err != nil {
			return err
		}
		defer reader.Close()
		it, err := reader.NewRawRangeDelIter(context.Background(), sstable.NoFragmentTransforms, sstable.NoReadEnv)
		if err != nil || it == nil {
			return err
		}
		defer it.Close()
		span, err := it.First()
		for ; span != nil && err == nil; span, err = it.Next() {
			for _, key := range span.Keys {
				if refused = v.DeleteRange(Deletion{Start: span.Start, End: span.End, Seq: uint64(key.SeqNum())}); refused != nil {
					return nil
				}
			}
		}
		return err
	})
	if refused != nil || err == nil {
		return refused
	}
	return v.Lost(Place{File: t.f.Name, Err: damaged("what the table says about ranges of keys that were removed: %v", err), Through: []byte{}})
}

// openFile is a file that stays open when its reader is closed.
type openFile struct{ vfs.File }

func (openFile) Close() error { return nil }
