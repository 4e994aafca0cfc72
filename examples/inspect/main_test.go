package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestThePageShowsAShopThatTrades(t *testing.T) {
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	var out strings.Builder
	go func() { ended <- run(ctx, &out, listener) }()

	url := "http://" + listener.Addr().String()
	get := func(path string) *http.Response {
		response, err := http.Get(url + path) // it waits for the server
		require.NoError(t, err)
		t.Cleanup(func() { _ = response.Body.Close() })
		require.Equal(t, http.StatusOK, response.StatusCode)
		return response
	}
	require.Equal(t, "text/html; charset=utf-8", get("/").Header.Get("Content-Type"), "it leads to the page")

	// Orders continue to come, and the live tail shows them.
	dec := tailOf(t, get, "orders")
	first, second := dec(), dec()
	require.NotEqual(t, first.SequenceNumber, second.SequenceNumber)
	require.Contains(t, string(second.Data), `"customer":"customer-`)

	cancel()
	require.NoError(t, <-ended)
	require.Contains(t, out.String(), url+"/braid/")
	_, err = http.Get(url)
	require.Error(t, err, "it has ended")
}

// tailOf returns a function that waits for the next record of a stream.
func tailOf(t *testing.T, get func(string) *http.Response, stream string) func() braid.Record {
	body := get("/braid/api/tail?rate=all&from=TRIM_HORIZON&stream=" + stream).Body
	var rest string
	return func() (rec braid.Record) {
		buffer := make([]byte, 64<<10)
		for {
			if event, after, found := strings.Cut(rest, "\n\n"); found {
				rest = after
				if _, data, found := strings.Cut(event, "\ndata: "); found {
					require.NoError(t, json.Unmarshal([]byte(data), &rec))
					return rec
				}
				continue
			}
			n, err := body.Read(buffer)
			require.NoError(t, err)
			rest += string(buffer[:n])
		}
	}
}
