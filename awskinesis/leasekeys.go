package awskinesis

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// leaseKeys are the keys of the rows in the lease table: the shard id if the application has
// one stream, and the stream's identifier before it if it has several.
type leaseKeys struct {
	stream      string            // the only stream, empty for several
	identifiers map[string]string // for several streams, by name
	names       map[string]string // the inverse
}

var identifierPattern = regexp.MustCompile(`^[0-9]+:([a-zA-Z0-9_.-]{1,128}):[0-9]+$`)

func newLeaseKeys(opts *LeaseStoreOptions) (*leaseKeys, error) {
	if (opts.Stream == "") == (len(opts.Streams) == 0) {
		return nil, invalid("LeaseStoreOptions.Stream", fmt.Sprintf("%q, with Streams %q", opts.Stream, opts.Streams), "must be the application's one stream, or empty with Streams that name several")
	}
	k := &leaseKeys{stream: opts.Stream, identifiers: make(map[string]string), names: make(map[string]string)}
	for _, identifier := range opts.Streams {
		parts := identifierPattern.FindStringSubmatch(identifier)
		if parts == nil {
			return nil, invalid("LeaseStoreOptions.Streams", fmt.Sprintf("%.200q", identifier), `must be an account, a name and a creation time, such as "123456789012:orders:1700000000"`)
		}
		name := parts[1]
		if k.identifiers[name] != "" {
			return nil, invalid("LeaseStoreOptions.Streams", fmt.Sprintf("%.300q", opts.Streams), fmt.Sprintf("must name each stream once; %q is listed twice", name))
		}
		k.identifiers[name], k.names[identifier] = identifier, name
	}
	return k, nil
}

// has reports whether the application has a stream of that name.
func (k *leaseKeys) has(stream string) bool { return stream == k.stream || k.identifiers[stream] != "" }

// format returns the key of a shard's row.
func (k *leaseKeys) format(key consumer.LeaseKey) string {
	if k.stream != "" {
		return string(key.Shard)
	}
	return k.identifiers[key.Stream] + ":" + string(key.Shard)
}

// parse is the inverse of format. ours is false for a shard of another stream. A row of an
// application of the other kind is an error, because its leases must not be ignored.
func (k *leaseKeys) parse(text string) (key consumer.LeaseKey, ours bool, err error) {
	colon := strings.LastIndexByte(text, ':')
	if several := k.stream == ""; several != (colon >= 0) {
		kind, set := "one stream", "Stream"
		if !several {
			kind, set = "several streams", "Streams"
		}
		return key, false, &consumer.PermanentError{Err: invalid("LeaseStoreOptions."+set, "empty", fmt.Sprintf("must be set: the lease table has the row %.200q, which belongs to an application with %s", text, kind))}
	}
	if k.stream != "" {
		return consumer.LeaseKey{Stream: k.stream, Shard: braid.ShardID(text)}, true, nil
	}
	name := k.names[text[:colon]]
	return consumer.LeaseKey{Stream: name, Shard: braid.ShardID(text[colon+1:])}, name != "", nil
}

// The keys of the rows in braid's table.
const (
	applicationRow  = "application"
	streamRowPrefix = "stream/"
)

func formatState(key consumer.LeaseKey) string {
	if key.Stream == "" {
		return applicationRow
	}
	return streamRowPrefix + key.Stream
}

// parseState is the inverse of formatState. ours is false for a stream that the application
// does not have.
func (k *leaseKeys) parseState(text string) (key consumer.LeaseKey, ours bool, err error) {
	if text == applicationRow {
		return key, true, nil
	}
	stream, is := strings.CutPrefix(text, streamRowPrefix)
	return consumer.LeaseKey{Stream: stream}, is && k.has(stream), nil
}
