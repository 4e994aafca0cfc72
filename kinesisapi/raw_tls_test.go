package kinesisapi_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// Accept fails at once if no client could complete a handshake.
func TestRawTLSListenerWithoutCertificate(t *testing.T) {
	for _, config := range []*tls.Config{nil, {}, {NextProtos: []string{"h2"}}} {
		plain, err := net.Listen("tcp", "localhost:0")
		require.NoError(t, err)
		err = new(http.Server).Serve(&kinesisapi.TLSListener{Listener: plain, Config: config})
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "TLSListener.Config", invalid.Field)
	}
}
