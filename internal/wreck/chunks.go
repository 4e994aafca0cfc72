package wreck

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// pageBytes is the size of the pieces that are read one by one after a larger read has failed.
const pageBytes = 4 << 10

// Logs and manifests are made of chunks, in blocks of 32 KiB that no chunk crosses. A
// chunk is
//
//	checksum  4 bytes, of all that follows but the length
//	length    2 bytes, of the payload
//	kind      1 byte: the format, and whether it is a whole record or a part of one
//	log       4 bytes, its number, if the format is recyclable
//	synced    8 bytes, an offset up to which the log was durable, in the newest format
//	payload
//
// Pebble reuses files of old logs. Chunks of the old log may then follow the end of the new one;
// they have the number of the old log.
const chunkBlockBytes = 32 << 10

// chunkFormats has the formats by (kind-1)/4.
var chunkFormats = [...]struct{ header, logAt, syncedAt int }{
	{header: 7},
	{header: 11, logAt: 7},
	{header: 19, logAt: 7, syncedAt: 11},
}

// Parts of a record, by (kind-1)%4.
const (
	chunkWhole = iota
	chunkFirst
	chunkMiddle
	chunkLast
)

// chunk is a chunk that was read.
type chunk struct {
	offset  int64 // of its header in the file
	part    int
	synced  uint64 // 0 if its format does not have it
	payload []byte // a part of the block
}

// castagnoli is the polynomial of Pebble's checksums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mask transforms a CRC as Pebble does before it stores it.
func mask(crc uint32) uint32 { return (crc>>15 | crc<<17) + 0xa282ead8 }

// chunkReader reads the chunks of a file, and skips bytes that are not one.
type chunkReader struct {
	r      io.ReaderAt
	size   int64  // of the file
	log    uint32 // the number in the chunks of a log; 0 for a manifest, whose chunks have none
	buf    [chunkBlockBytes]byte
	n      int   // how much of buf is the current block
	at     int   // in buf
	base   int64 // of the block in the file
	begun  bool
	failed error // the disk's first error; bytes that could not be read are zero, and so not a chunk
	bad    int64 // the first place since the last chunk where none was found; -1 for no such place
	closed bool  // whether the end mark of the log's writer was found

	// other is set if the file begins as another log. Either that log's file was to be reused
	// and nothing was written to it, or the file belongs elsewhere. A file that belongs
	// elsewhere and was reused may hold chunks with this log's number, but only as those of a
	// log before the one that it begins as. So if it begins as an earlier log and holds chunks
	// with this log's number, it is this log, the beginning of which was not written.
	other   bool
	earlier bool // with other: it begins as an earlier log
}

func newChunkReader(r io.ReaderAt, size int64, log uint64) *chunkReader {
	return &chunkReader{r: r, size: size, log: uint32(log), bad: -1}
}

// next returns the next chunk. If bytes between it and the one before are not a chunk, bad is
// their place; otherwise it is -1.
func (c *chunkReader) next() (found chunk, ok bool) {
	c.bad = -1
	for {
		for c.at < c.n {
			if found, ok := c.parse(c.at); ok {
				c.other = c.other && !c.earlier
				c.at += chunkFormats[c.format(c.at)].header + len(found.payload)
				return found, true
			}
			if c.blank() {
				break
			}
			if c.at == 0 && c.base == 0 {
				c.other, c.earlier = c.isOther()
			}
			if c.isEnd() {
				c.closed, c.n, c.begun = true, 0, true // nothing after it belongs to the log
				return chunk{}, false
			}
			if c.bad < 0 {
				c.bad = c.base + int64(c.at)
			}
			c.at++
		}
		if !c.fill() {
			return chunk{}, false
		}
	}
}

// fill reads the next block.
func (c *chunkReader) fill() bool {
	if c.begun && c.n < chunkBlockBytes {
		return false
	}
	if c.begun {
		c.base += chunkBlockBytes
	}
	c.begun = true
	c.n, c.at = int(min(max(c.size-c.base, 0), chunkBlockBytes)), 0
	if err := readPages(c.r, c.buf[:c.n], c.base); err != nil && c.failed == nil {
		c.failed = err
	}
	return c.n > 0
}

// readPages fills b from an offset. Pages that cannot be read are zero, and the first error of
// the disk is returned. So a bad sector costs only its page.
func readPages(r io.ReaderAt, b []byte, offset int64) (failed error) {
	if n, err := r.ReadAt(b, offset); n == len(b) || err == nil {
		return nil
	}
	for at := 0; at < len(b); at += pageBytes {
		page := b[at:min(len(b), at+pageBytes)]
		if n, err := r.ReadAt(page, offset+int64(at)); n < len(page) {
			clear(page[n:])
			if failed == nil {
				failed = err
			}
		}
	}
	return failed
}

func (c *chunkReader) format(at int) int { return (int(c.buf[at+6]) - 1) / 4 }

// parse returns the chunk at a place of the block, if there is one.
func (c *chunkReader) parse(at int) (chunk, bool) {
	block := c.buf[:c.n]
	if at+chunkFormats[0].header > len(block) || block[at+6] == 0 || c.format(at) >= len(chunkFormats) {
		return chunk{}, false
	}
	f := chunkFormats[c.format(at)]
	end := at + f.header + int(binary.LittleEndian.Uint16(block[at+4:]))
	if end > len(block) || f.logAt > 0 && binary.LittleEndian.Uint32(block[at+f.logAt:]) != c.log ||
		(f.logAt > 0) != (c.log > 0) ||
		mask(crc32.Checksum(block[at+6:end], castagnoli)) != binary.LittleEndian.Uint32(block[at:]) {
		return chunk{}, false
	}
	found := chunk{offset: c.base + int64(at), part: (int(block[at+6]) - 1) % 4, payload: block[at+f.header : end]}
	if f.syncedAt > 0 {
		found.synced = binary.LittleEndian.Uint64(block[at+f.syncedAt:])
	}
	return found, true
}

// isOther reports whether a chunk or the end mark of another log is at the current place, and
// whether that is an earlier one.
func (c *chunkReader) isOther() (is, earlier bool) {
	rest := c.buf[c.at:c.n]
	if c.log == 0 || len(rest) < chunkFormats[1].header {
		return false, false
	}
	other := *c
	other.log = little32(rest[7:])
	if _, is = other.parse(c.at); !is {
		other.log-- // an end mark has the number of the next log
		is = other.isEnd()
	}
	return is && other.log != c.log, other.log < c.log
}

// blank reports whether the rest of the block is too short for a chunk, and zero.
func (c *chunkReader) blank() bool {
	rest := c.buf[c.at:c.n]
	if c.bad >= 0 || len(rest) > chunkFormats[2].header {
		return false
	}
	for _, b := range rest {
		if b != 0 {
			return false
		}
	}
	return true
}

// isEnd reports whether the end mark of the log's writer is here: the header of a chunk with the
// number of the next log, without a checksum and a payload. Chunks of an earlier log cannot
// have that number.
func (c *chunkReader) isEnd() bool {
	const header, kind = 11, 5
	rest := c.buf[c.at:c.n]
	return c.log > 0 && len(rest) >= header && little32(rest) == 0 && rest[4] == 0 && rest[5] == 0 &&
		rest[6] == kind && little32(rest[7:]) == c.log+1
}

func little32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
