package kinesisapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkHTTP measures PutRecords over a socket, with a cheap client.
func BenchmarkHTTP(b *testing.B) {
	server := httptest.NewServer(benchServer(b, 4))
	b.Cleanup(server.Close)
	body := putRecordsBody(500, 1024)
	request := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: kinesis\r\nX-Amz-Target: Kinesis_20131202.PutRecords\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n", len(body))
	request = append(request, body...)
	b.SetBytes(500 * 1024)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		answers := bufio.NewReaderSize(conn, 64<<10)
		for pb.Next() {
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			response, err := http.ReadResponse(answers, nil)
			if err != nil || response.StatusCode != http.StatusOK {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	})
	b.ReportMetric(float64(500*b.N)/b.Elapsed().Seconds(), "records/s")
}
