package kinesisapi_test

import (
	"bytes"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

// TestRawAccountHint: the first request that is signed for another account or region than
// the server's logs a hint at SeparateAccounts.
func TestRawAccountHint(t *testing.T) {
	for _, c := range []struct {
		name     string
		separate bool
		inQuery  bool
		scopes   []string // of signatures, in turn
		hint     string   // empty if there is none
	}{
		{"the same", false, false, []string{"", "AKIA/20260101/us-east-1/kinesis/aws4_request", "000000000000/20260101/us-east-1/kinesis/aws4_request", "AKIA/nonsense"}, ""},
		{"region", false, false, []string{"AKIA/20260101/eu-west-1/kinesis/aws4_request", "AKIA/20260101/eu-west-2/kinesis/aws4_request"}, "account=000000000000 region=eu-west-1 "},
		{"account", false, false, []string{"AKIA/20260101/us-east-1/kinesis/aws4_request", "111122223333/20260101/us-east-1/kinesis/aws4_request"}, "account=111122223333 region=us-east-1 "},
		{"region in a query", false, true, []string{"AKIA/20260101/us-east-1/kinesis/aws4_request", "AKIA/20260101/eu-west-1/kinesis/aws4_request"}, "account=000000000000 region=eu-west-1 "},
		{"separate", true, false, []string{"111122223333/20260101/eu-west-1/kinesis/aws4_request"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var logged bytes.Buffer
			r := newRig(t, &kinesisapi.Options{SeparateAccounts: c.separate, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			for _, scope := range c.scopes {
				path, authorization := "/", "AWS4-HMAC-SHA256 Credential="+scope+", SignedHeaders=host, Signature=0"
				if c.inQuery {
					path, authorization = "/?X-Amz-Credential="+url.QueryEscape(scope), ""
				}
				a := r.send("POST", path, "{}", "Content-Type", typeJSON, "X-Amz-Target", "Kinesis_20131202.ListStreams", "Authorization", authorization)
				require.Equal(t, 200, a.status)
			}
			if c.hint == "" {
				require.Empty(t, logged.String())
				return
			}
			require.Equal(t, 1, strings.Count(logged.String(), "\n"), logged.String())
			require.Contains(t, logged.String(), "SeparateAccounts (-separate-accounts)")
			require.Contains(t, logged.String(), c.hint)
		})
	}
}
