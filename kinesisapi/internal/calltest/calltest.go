// Package calltest calls a Kinesis server by plain HTTP requests, so that the tests of this
// module need no AWS SDK.
package calltest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Object is a JSON document. A []byte in it is sent in base64.
type Object map[string]any

// Client calls a server. Its fields must not change after the first call; from then on any
// goroutine may use it.
type Client struct {
	HTTP interface {
		Do(r *http.Request) (*http.Response, error)
	}
	URL       string // of the server
	AccessKey string // with which requests are signed
	Region    string // for which requests are signed
}

// Error is the error in a server's answer.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Call calls an operation, and decodes its answer into out, if that is not nil. It
// returns an [*Error] if the server refuses the call.
func (c *Client) Call(ctx context.Context, operation string, in Object, out any) error {
	response, err := c.Send(ctx, operation, in)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(body, out)
}

// Send is Call for answers that are streams: the caller closes the body. The signature is
// invented; a server that does not verify signatures takes account and region from it.
func (c *Client) Send(ctx context.Context, operation string, in Object) (*http.Response, error) {
	if in == nil {
		in = Object{}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
	request.Header.Set("Authorization", fmt.Sprintf(
		"AWS4-HMAC-SHA256 Credential=%s/20260101/%s/kinesis/aws4_request, SignedHeaders=host, Signature=0", c.AccessKey, c.Region))
	response, err := c.HTTP.Do(request)
	if err != nil || response.StatusCode == http.StatusOK {
		return response, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var refusal struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(text, &refusal); err != nil {
		return nil, fmt.Errorf("%s: %s: %q: %w", operation, response.Status, text, err)
	}
	return nil, &Error{refusal.Type, refusal.Message}
}

// Put puts a record.
func (c *Client) Put(ctx context.Context, stream, partitionKey, data string) error {
	return c.Call(ctx, "PutRecord", Object{"StreamName": stream, "PartitionKey": partitionKey, "Data": []byte(data)}, nil)
}
