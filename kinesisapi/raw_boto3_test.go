package kinesisapi_test

import (
	"net/http/httptest"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// The SDK for Python calls all operations on queues, over a socket.
func TestRawBoto3(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	const has = "import boto3; boto3.client('kinesis', region_name='us-east-1').create_queue"
	if err := exec.CommandContext(t.Context(), python, "-c", has).Run(); err != nil {
		t.Skip("python3 has no boto3, or one that does not know queues: 1.44.8 does")
	}
	r := newRig(t, nil)
	listener := httptest.NewServer(r.server)
	t.Cleanup(listener.Close)
	script := exec.CommandContext(t.Context(), python, "testdata/queues.py", listener.URL)
	output, err := script.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Equal(t, "12 operations\n", string(output))
}
