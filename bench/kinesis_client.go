package main

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The stream that every server has, and its records.
const (
	kinesisStream = "bench"
	kinesisShards = 4
	kinesisBatch  = 500 // records of a PutRecords, the limit of Kinesis
	kinesisBodies = 8   // different PutRecords
	kinesisPool   = kinesisBodies * kinesisBatch
)

// kinesisRecord is a record to put. Its key begins with its index in the pool, so that records
// read back can be compared.
type kinesisRecord struct {
	key   string
	value []byte
}

// kinesisData is everything to put, encoded for the wire.
type kinesisData struct {
	records []kinesisRecord
	batches [][]byte // bodies of PutRecords, of the records in order
	singles [][]byte // bodies of PutRecord, one for each record
}

// kinesisPut is built once: encoding costs more than sending, and would take time from the
// server, which shares the processors.
var kinesisPut = sync.OnceValue(func() *kinesisData { return newKinesisData(newValues(kib)[:kinesisPool], kinesisBatch) })

func newKinesisData(values [][]byte, batch int) *kinesisData {
	d := &kinesisData{}
	for i, value := range values {
		d.records = append(d.records, kinesisRecord{partitionKey(i, kinesisShards), value})
	}
	for i := range d.records {
		body := append([]byte(`{"StreamName":"`+kinesisStream+`",`), d.records[i].json()[1:]...)
		d.singles = append(d.singles, body)
	}
	for first := 0; first < len(d.records); first += batch {
		body := []byte(`{"StreamName":"` + kinesisStream + `","Records":[`)
		for i := range d.records[first:min(first+batch, len(d.records))] {
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, d.records[first+i].json()...)
		}
		d.batches = append(d.batches, append(body, "]}"...))
	}
	return d
}

// json returns the record as a member of a PutRecords.
func (r *kinesisRecord) json() []byte {
	text := append([]byte(`{"Data":"`), base64.StdEncoding.EncodeToString(r.value)...)
	return append(text, `","PartitionKey":"`+r.key+`"}`...)
}

// partitionKey returns a key that begins with i and belongs to shard i modulo shards. The
// shards, a power of two, divide the hashes evenly.
func partitionKey(i, shards int) string {
	for salt := 0; ; salt++ {
		key := fmt.Sprintf("%d-%d", i, salt)
		if int(md5.Sum([]byte(key))[0])*shards/256 == i%shards {
			return key
		}
	}
}

// kinesisConn is one connection. It belongs to one goroutine, which writes and reads itself: a
// client of net/http passes requests to other goroutines, which costs more than some servers
// need.
type kinesisConn struct {
	addr   string
	conn   net.Conn // nil while closed
	reader *bufio.Reader
	used   time.Time         // the time of the last answer
	heads  map[string][]byte // the heads of requests, by operation, up to the body's size
	head   []byte
	answer []byte
}

// Servers close idle connections after seconds, and a server that never answers must not block
// the run.
const (
	maxIdle   = time.Second
	maxAnswer = time.Minute
)

func newKinesisConn(addr string) *kinesisConn {
	return &kinesisConn{addr: addr, heads: make(map[string][]byte)}
}

func (c *kinesisConn) close() {
	if c.conn != nil {
		_ = c.conn.Close() // no answer is outstanding
		c.conn = nil
	}
}

// headOf returns the beginning of an operation's requests. The signature is a dummy: no server
// here checks it, but some require one.
func (c *kinesisConn) headOf(operation string) []byte {
	head, found := c.heads[operation]
	if !found {
		head = []byte("POST / HTTP/1.1\r\nHost: " + c.addr + "\r\n" +
			"Content-Type: application/x-amz-json-1.1\r\n" +
			"X-Amz-Target: Kinesis_20131202." + operation + "\r\n" +
			"X-Amz-Date: 20260101T000000Z\r\n" +
			"Authorization: AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0", 64) + "\r\n" +
			"Content-Length: ")
		c.heads[operation] = head
	}
	return head
}

// call sends a request and returns the answer, which is valid until the next call.
// An answer that is not a 200 is an error.
func (c *kinesisConn) call(operation string, body []byte) ([]byte, error) {
	response, err := c.send(operation, body)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %.300s", operation, response.Status, c.answer)
	}
	return c.answer, nil
}

// send sends a request and reads the answer. After an error the connection is unusable.
func (c *kinesisConn) send(operation string, body []byte) (*http.Response, error) {
	now := time.Now()
	if now.Sub(c.used) > maxIdle {
		c.close()
	}
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return nil, err
		}
		c.conn, c.reader = conn, bufio.NewReaderSize(conn, 64*kib)
	}
	if err := c.conn.SetDeadline(now.Add(maxAnswer)); err != nil {
		return nil, err
	}
	c.head = strconv.AppendInt(append(c.head[:0], c.headOf(operation)...), int64(len(body)), 10)
	c.head = append(c.head, "\r\n\r\n"...)
	request := net.Buffers{c.head, body}
	if _, err := request.WriteTo(c.conn); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return nil, err
	}
	c.answer, err = readInto(c.answer[:0], response.Body, response.ContentLength)
	if err != nil {
		return nil, err
	}
	if response.Close {
		c.close()
	}
	c.used = time.Now()
	return response, nil
}

// readInto appends all of r to buffer. A size of -1 means unknown.
func readInto(buffer []byte, r io.Reader, size int64) ([]byte, error) {
	if size > int64(cap(buffer)) {
		buffer = make([]byte, 0, size)
	}
	for {
		if len(buffer) == cap(buffer) {
			if int64(len(buffer)) == size {
				return buffer, nil
			}
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := r.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if errors.Is(err, io.EOF) {
			return buffer, nil
		}
		if err != nil {
			return buffer, err
		}
	}
}

// member returns the text after the member's name and colon in an answer. It searches instead
// of parsing, since a parser would cost more than the server; no value here can contain such a
// name.
func member(answer []byte, name string) ([]byte, bool) {
	at := bytes.Index(answer, []byte(`"`+name+`"`))
	if at < 0 {
		return nil, false
	}
	rest := bytes.TrimLeft(answer[at+len(name)+2:], " \n\t")
	rest, found := bytes.CutPrefix(rest, []byte(":"))
	return bytes.TrimLeft(rest, " \n\t"), found
}

// stringMember returns a member that is a string without escapes.
func stringMember(answer []byte, name string) (string, bool) {
	rest, _ := member(answer, name) // empty if missing
	rest, found := bytes.CutPrefix(rest, []byte(`"`))
	if !found {
		return "", false
	}
	text, _, found := bytes.Cut(rest, []byte(`"`))
	return string(text), found
}

// intMember returns a member that is an integer.
func intMember(answer []byte, name string) (int64, bool) {
	rest, found := member(answer, name)
	if !found {
		return 0, false
	}
	end := bytes.IndexFunc(rest, func(r rune) bool { return r != '-' && (r < '0' || r > '9') })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return n, err == nil
}

// putRecords sends a body of PutRecords. The server must accept all records.
func (c *kinesisConn) putRecords(body []byte) error {
	answer, err := c.call("PutRecords", body)
	if err != nil {
		return err
	}
	if failed, found := intMember(answer, "FailedRecordCount"); !found || failed != 0 {
		return fmt.Errorf("PutRecords: %d records failed: %.300s", failed, answer)
	}
	return nil
}

// putRecord sends a body of PutRecord.
func (c *kinesisConn) putRecord(body []byte) error {
	answer, err := c.call("PutRecord", body)
	if err == nil && !bytes.Contains(answer, []byte(`"SequenceNumber"`)) {
		err = fmt.Errorf("PutRecord: no sequence number: %.300s", answer)
	}
	return err
}

// horizon returns an iterator at the first record of a shard.
func (c *kinesisConn) horizon(shard int) (string, error) {
	answer, err := c.call("GetShardIterator", fmt.Appendf(nil,
		`{"StreamName":%q,"ShardId":"shardId-%012d","ShardIteratorType":"TRIM_HORIZON"}`, kinesisStream, shard))
	if err != nil {
		return "", err
	}
	iterator, found := stringMember(answer, "ShardIterator")
	if !found {
		return "", fmt.Errorf("GetShardIterator: no iterator: %.300s", answer)
	}
	return iterator, nil
}

// page reads up to limit records. The answer is valid until the next call.
func (c *kinesisConn) page(iterator string, limit int) (answer []byte, records int, next string, err error) {
	answer, err = c.call("GetRecords", fmt.Appendf(nil, `{"ShardIterator":%q,"Limit":%d}`, iterator, limit))
	if err != nil {
		return nil, 0, "", err
	}
	next, found := stringMember(answer, "NextShardIterator")
	if !found {
		return nil, 0, "", fmt.Errorf("GetRecords: no next iterator: %.300s", answer)
	}
	return answer, bytes.Count(answer, []byte(`"SequenceNumber"`)), next, nil
}

// createStream creates the stream, unless the server starts with it, and returns when it is
// active.
func (c *kinesisConn) createStream(exists bool) error {
	if !exists {
		body := fmt.Appendf(nil, `{"StreamName":%q,"ShardCount":%d}`, kinesisStream, kinesisShards)
		if _, err := c.call("CreateStream", body); err != nil {
			return err
		}
	}
	for range 1000 {
		answer, err := c.call("DescribeStreamSummary", fmt.Appendf(nil, `{"StreamName":%q}`, kinesisStream))
		if err != nil {
			return err
		}
		if status, _ := stringMember(answer, "StreamStatus"); status == "ACTIVE" {
			return nil
		}
		wait(10 * time.Millisecond)
	}
	return errors.New("stream does not become active")
}

// check reads up to perShard records from the beginning of each shard, compares them with the
// records put, and returns their number. A server that stored nothing would be fast.
func (c *kinesisConn) check(d *kinesisData, perShard int) (records int, err error) {
	for shard := range kinesisShards {
		iterator, err := c.horizon(shard)
		if err != nil {
			return records, err
		}
		for read := 0; read < perShard; {
			answer, n, next, err := c.page(iterator, perShard-read)
			if err != nil {
				return records, err
			}
			if n == 0 {
				break
			}
			if err := d.compare(answer, shard, n); err != nil {
				return records, err
			}
			records, read, iterator = records+n, read+n, next
		}
	}
	return records, nil
}

// compare returns an error unless the answer has n records of the pool that belong to the
// shard.
func (d *kinesisData) compare(answer []byte, shard, n int) error {
	var page struct {
		Records []struct {
			Data         []byte
			PartitionKey string
		}
	}
	if err := json.Unmarshal(answer, &page); err != nil {
		return fmt.Errorf("GetRecords: %w", err)
	}
	if len(page.Records) != n {
		return fmt.Errorf("GetRecords: %d sequence numbers in %d records", n, len(page.Records))
	}
	for _, r := range page.Records {
		number, _, _ := strings.Cut(r.PartitionKey, "-")
		i, err := strconv.Atoi(number)
		switch {
		case err != nil || i < 0 || i >= len(d.records) || d.records[i].key != r.PartitionKey:
			return fmt.Errorf("GetRecords: a record with key %q that was never put", r.PartitionKey)
		case i%kinesisShards != shard:
			return fmt.Errorf("GetRecords: record %q is in shard %d", r.PartitionKey, shard)
		case !bytes.Equal(r.Data, d.records[i].value):
			return fmt.Errorf("GetRecords: record %q has other data than was put", r.PartitionKey)
		}
	}
	return nil
}
