package kinesisapi_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Two servers, one called in JSON and the other in CBOR, get the same few hundred
// operations, with the same pauses.
func TestRawTwins(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { twins(t, seed) })
		})
	}
}

func twins(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	options := &kinesisapi.Options{ExactLimits: seed%4 == 3}
	if seed%2 == 1 {
		options.CreateDelay, options.UpdateDelay, options.DeleteDelay = time.Second, 2*time.Second, time.Second
	}
	one, other := newSpeaker(newRig(t, options), false), newSpeaker(newRig(t, options), true)
	for _, name := range []string{"a", "b", "c"} {
		document := map[string]any{"StreamName": name, "ShardCount": int64(2)}
		if name == "c" {
			delete(document, "ShardCount") // on demand, for queues
		}
		one.say("CreateStream", document)
		other.say("CreateStream", document)
	}
	succeeded := make(map[string]int)
	for step := range 300 {
		choices := &chooser{make([]byte, 200)}
		for i := range choices.bytes {
			choices.bytes[i] = byte(random.Uint32())
		}
		operation := operations[random.IntN(len(operations))]
		switch random.IntN(12) { // the most frequent operations
		case 0:
			operation = "PutRecords"
		case 1:
			operation = "GetShardIterator"
		case 2:
			operation = "GetRecords"
		case 3:
			operation = "CreateStream"
		case 4:
			operation = "CreateQueue"
		case 5:
			operation = "ReceiveQueueRecords"
		}
		if (operation == "DeleteStream" || operation == "DeleteQueue") && random.IntN(3) > 0 {
			continue
		}
		document := generate(choices, reflect.TypeOf(service.Operations[operation].NewInput()).Elem())
		a, b := both(one, other, operation, document)
		require.Equal(t, a, b, "step %d: %s %s", step, operation, one.encode(document))
		if a.status == 200 {
			succeeded[operation]++
		}
		pass(choose(choices, 0, time.Millisecond, time.Second, 6*time.Second, time.Minute, 6*time.Minute))
	}
	require.Greater(t, len(succeeded), 15, "many of the requests are good ones, or nothing is tested")
}
