package kinesisapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// queueInBubble runs a test with an on-demand stream s and a queue of it.
func queueInBubble(t *testing.T, attributes string, test func(q *queueRig)) {
	rigInBubble(t, nil, func(r *rig) {
		r.onDemand("s")
		test(r.queue("q", "s", attributes))
	})
}

// A queue at LATEST has all records that are put after the answer to CreateQueue.
func TestRawQueueLatest(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.onDemand("s")
		r.put("before")
		pass(time.Second)
		q := &queueRig{r, description(t, r.createQueue("q", "s", "", ""))["QueueARN"].(string)}
		r.put("after")
		require.Equal(t, "after", q.one("").data)
		q.nothing()
	})
}

// This also holds while the queue is CREATING, before it can be received from.
func TestRawQueueLatestWhileCreating(t *testing.T) {
	rigInBubble(t, delays, func(r *rig) {
		r.onDemand("s")
		pass(time.Minute)
		r.put("before")
		q := &queueRig{r, description(t, r.createQueue("q", "s", `"Type":"LATEST"`, ""))["QueueARN"].(string)}
		r.put("after")
		pass(time.Minute)
		require.Equal(t, "after", q.one("").data)
		q.nothing()
	})
}

// A queue at a timestamp has the records that arrived then or later.
func TestRawQueueAtTimestamp(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.onDemand("s")
		r.put("a")
		pass(time.Second)
		at := seconds(time.Now())
		r.put("b")
		pass(time.Second)
		r.put("c")
		for position, want := range map[string][]string{
			fmt.Sprintf(`"Type":"AT_TIMESTAMP","Timestamp":%.3f`, at): {"b", "c"},
			`"Type":"AT_TIMESTAMP","Timestamp":1`:                     {"a", "b", "c"},
			`"Type":"TRIM_HORIZON"`:                                   {"a", "b", "c"},
		} {
			d := description(t, r.createQueue(fmt.Sprint("q", len(position)), "s", position, ""))
			q := &queueRig{r, d["QueueARN"].(string)}
			var got []string
			for _, d := range q.receive("") {
				got = append(got, d.data)
			}
			require.ElementsMatch(t, want, got, position)
		}
	})
}

// A receive returns up to ten records, each once.
func TestRawReceive(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		want := make(map[string]bool)
		for i := range 25 {
			q.doesf("PutRecord", `{"StreamName":"s","PartitionKey":"k%d","Data":""}`, i)
			want[fmt.Sprint("k", i)] = true
		}
		arrived := seconds(time.Now())
		pass(time.Second)
		ids := make(map[string]bool)
		for _, n := range []int{10, 10, 5} {
			got := q.receive("")
			require.Len(q.t, got, n)
			for _, d := range got {
				require.Equal(q.t, 1, d.count)
				require.True(q.t, want[d.key], d.key)
				delete(want, d.key)
				require.False(q.t, ids[d.id])
				ids[d.id] = true
				require.Regexp(q.t, `^[a-z0-9]{1,64}$`, d.id)
				require.LessOrEqual(q.t, len(d.handle), 1024)
				require.Equal(q.t, arrived, d.arrival)
				require.Equal(q.t, seconds(time.Now()), d.first)
			}
		}
		require.Empty(q.t, want)
		for more, wait := range map[string]time.Duration{"": 9 * time.Second, `"WaitTimeSeconds":1`: time.Second} {
			began := time.Now()
			require.JSONEq(q.t, `{"QueueRecords":[]}`, q.send("ReceiveQueueRecords", more).body)
			require.Equal(q.t, wait, time.Since(began))
		}
		pass(time.Second)
		require.Len(q.t, q.receive(`"WaitTimeSeconds":20`), 10, "after 30 seconds they are visible again")
	})
}

// A waiting receiver gets a record as soon as it is put, and only one receiver gets it.
func TestRawReceiveWaits(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		type result struct {
			list []delivery
			took time.Duration
		}
		results := make(chan result, 2)
		began := time.Now()
		for range 2 {
			go func() {
				list := q.receive(`"WaitTimeSeconds":20`)
				results <- result{list, time.Since(began)}
			}()
		}
		pass(3 * time.Second)
		q.put("a")
		first, second := <-results, <-results
		require.Len(q.t, first.list, 1)
		require.Equal(q.t, 3*time.Second, first.took)
		require.Empty(q.t, second.list)
		require.Equal(q.t, 20*time.Second, second.took)
	})
}

// A record that is not acknowledged comes again after its visibility timeout.
func TestRawRedelivery(t *testing.T) {
	queueInBubble(t, `"VisibilityTimeoutSeconds":2`, func(q *queueRig) {
		q.put("a")
		first := q.one("")
		pass(900 * time.Millisecond)
		q.nothing() // until 1.9 seconds
		pass(100 * time.Millisecond)
		second := q.one("")
		require.Equal(q.t, 2, second.count)
		require.NotEqual(q.t, first.handle, second.handle)
		require.Equal(q.t, first.id, second.id)
		require.Equal(q.t, first.first, second.first, "the first time stays")
		require.Equal(q.t, first.data, second.data)
		q.acknowledge(second.handle)
		pass(time.Minute)
		q.nothing()
	})
}

// A waiting receiver gets a record as soon as it is visible again.
func TestRawRedeliveryWakes(t *testing.T) {
	queueInBubble(t, `"VisibilityTimeoutSeconds":5`, func(q *queueRig) {
		q.put("a")
		q.one("")
		began := time.Now()
		require.Equal(q.t, 2, q.one(`"WaitTimeSeconds":20`).count)
		require.Equal(q.t, 5*time.Second, time.Since(began))
	})
}

// A receive can set its own visibility timeout.
func TestRawReceiveVisibility(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		q.put("a")
		require.Equal(q.t, 1, q.one(`"VisibilityTimeoutSeconds":0`).count)
		require.Equal(q.t, 2, q.one(`"VisibilityTimeoutSeconds":60`).count)
		pass(58 * time.Second)
		q.nothing()
		pass(time.Second)
		last := q.one(`"VisibilityTimeoutSeconds":0`)
		require.Equal(q.t, 3, last.count)
		q.acknowledge(last.handle) // the newest handle can
		q.nothing()
	})
}

// A record that is acknowledged in one queue is still in other queues, and can still be
// read from the stream.
func TestRawAcknowledge(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		other := q.queue("other", "s", "")
		q.put("a")
		d := q.one("")
		q.acknowledge(d.handle)
		pass(time.Hour)
		q.nothing()
		o := other.one("")
		require.Equal(q.t, d.id, o.id, "the id is that of the record")
		require.Equal(q.t, 1, o.count)
		require.Len(q.t, q.doesf("GetRecords", `{"ShardIterator":%q}`, q.iteratorOf("k"))["Records"], 2)
	})
}

// Invalid handles fail individually; the call succeeds.
func TestRawAcknowledgeMixed(t *testing.T) {
	queueInBubble(t, `"VisibilityTimeoutSeconds":10`, func(q *queueRig) {
		other := q.queue("other", "s", "")
		q.put("a", "b")
		first := q.receive("")
		pass(10 * time.Second)
		second := q.receive("")
		foreign := other.receive("")
		require.Len(q.t, second, 2)
		superseded := first[1].handle
		q.settle("AcknowledgeQueueRecords", "", []string{second[0].handle, "garbage", foreign[0].handle, superseded}, map[string]string{
			"garbage": invalid, foreign[0].handle: invalid, superseded: invalid,
		})
		q.settle("UpdateQueueRecordsVisibility", `"VisibilityTimeoutSeconds":60`, []string{second[1].handle, "garbage", first[1].handle}, map[string]string{
			"garbage": invalid, first[1].handle: invalid,
		})
		q.settle("AcknowledgeDeadLetterQueueRecords", "", []string{second[1].handle}, map[string]string{second[1].handle: invalid})
		q.settle("RestoreDeadLetterQueueRecords", "", []string{second[1].handle}, map[string]string{second[1].handle: invalid})
		q.settle("UpdateDeadLetterQueueRecordsVisibility", `"VisibilityTimeoutSeconds":1`, []string{second[1].handle}, map[string]string{second[1].handle: invalid})
		pass(58 * time.Second)
		q.nothing()
		pass(time.Second)
		require.Equal(q.t, second[1].id, q.one("").id)
	})
}

// Acknowledging again succeeds, because the first answer may have been lost.
func TestRawAcknowledgeTwice(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		q.put("a", "b")
		got := q.receive("")
		a, b := got[0].handle, got[1].handle
		q.acknowledge(a)
		q.acknowledge(a)
		q.acknowledge(b, b)
		q.settle("UpdateQueueRecordsVisibility", `"VisibilityTimeoutSeconds":1`, []string{a}, map[string]string{a: notFound})
		pass(time.Hour)
		q.nothing()
	})
}

// After its visibility timeout, the newest handle can still acknowledge, but cannot hide
// the record again.
func TestRawAcknowledgeLate(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		q.put("a")
		d := q.one("")
		pass(31 * time.Second)
		q.settle("UpdateQueueRecordsVisibility", `"VisibilityTimeoutSeconds":60`, []string{d.handle}, map[string]string{d.handle: invalid})
		q.acknowledge(d.handle)
		q.nothing()
	})
}

// A changed visibility timeout counts from the change.
func TestRawVisibility(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		q.put("a")
		d := q.one("")
		pass(25 * time.Second)
		q.extend(d.handle, 60)
		pass(59*time.Second - time.Millisecond)
		q.nothing()
		pass(time.Millisecond)
		again := q.one("")
		require.Equal(q.t, 2, again.count)
		q.extend(again.handle, 0)
		require.Equal(q.t, 3, q.one("").count, "0 makes it visible at once")
	})
}

// After the maximum number of deliveries a record is a dead letter, and can be received as
// one.
func TestRawDeadLetters(t *testing.T) {
	for _, most := range []int{1, 3} {
		queueInBubble(t, fmt.Sprintf(`"VisibilityTimeoutSeconds":10,"DeadLetterConfiguration":{"TargetType":"BUILT_IN","MaxReceiveCount":%d}`, most), func(q *queueRig) {
			q.put("a")
			var last delivery
			for i := range most {
				require.Empty(q.t, q.receiveDead(`"WaitTimeSeconds":1`))
				last = q.one("")
				require.Equal(q.t, i+1, last.count)
				pass(10 * time.Second)
			}
			q.nothing()
			dead := q.receiveDead("")
			require.Len(q.t, dead, 1)
			require.Equal(q.t, []any{last.data, last.key, last.id, last.first, most + 1},
				[]any{dead[0].data, dead[0].key, dead[0].id, dead[0].first, dead[0].count})
			require.NotEqual(q.t, last.handle, dead[0].handle)
			q.settle("AcknowledgeQueueRecords", "", []string{last.handle}, map[string]string{last.handle: invalid})

			// Dead letters also have a visibility timeout.
			require.Empty(q.t, q.receiveDead(`"WaitTimeSeconds":1`))
			q.settle("UpdateDeadLetterQueueRecordsVisibility", `"VisibilityTimeoutSeconds":20`, []string{dead[0].handle}, nil)
			pass(18 * time.Second)
			require.Empty(q.t, q.receiveDead(`"WaitTimeSeconds":1`))
			again := q.receiveDead(`"WaitTimeSeconds":2,"VisibilityTimeoutSeconds":60`)
			require.Len(q.t, again, 1)
			q.settle("AcknowledgeDeadLetterQueueRecords", "", []string{dead[0].handle, again[0].handle, last.handle}, map[string]string{
				dead[0].handle: invalid, last.handle: invalid,
			})
			q.settle("AcknowledgeDeadLetterQueueRecords", "", []string{again[0].handle}, nil)
			pass(time.Hour)
			require.Empty(q.t, q.receiveDead(`"WaitTimeSeconds":1`))
			q.nothing()
		})
	}
}

// With NONE, no record becomes a dead letter.
func TestRawNoDeadLetters(t *testing.T) {
	queueInBubble(t, `"VisibilityTimeoutSeconds":1,"DeadLetterConfiguration":{"TargetType":"NONE"}`, func(q *queueRig) {
		q.put("a")
		for i := range 50 {
			require.Equal(q.t, i+1, q.one("").count)
		}
		require.Empty(q.t, q.receiveDead(`"WaitTimeSeconds":1`))
	})
}

// The last delivery can be acknowledged, even after its visibility timeout.
func TestRawLastDelivery(t *testing.T) {
	queueInBubble(t, `"VisibilityTimeoutSeconds":10,"DeadLetterConfiguration":{"TargetType":"BUILT_IN","MaxReceiveCount":1}`, func(q *queueRig) {
		q.put("a", "b", "c")
		got := q.receive("")
		q.acknowledge(got[0].handle)
		pass(10 * time.Second)
		q.settle("UpdateQueueRecordsVisibility", `"VisibilityTimeoutSeconds":60`, []string{got[1].handle}, map[string]string{got[1].handle: invalid})
		q.acknowledge(got[1].handle) // it is a dead letter that was not received as one
		dead := q.receiveDead("")
		require.Len(q.t, dead, 1)
		require.Equal(q.t, got[2].id, dead[0].id)
	})
}

// A restored record begins again, and can become a dead letter again.
func TestRawRestore(t *testing.T) {
	queueInBubble(t, `"VisibilityTimeoutSeconds":10,"DeadLetterConfiguration":{"TargetType":"BUILT_IN","MaxReceiveCount":2}`, func(q *queueRig) {
		q.put("a")
		first := q.one("")
		q.extend(first.handle, 0)
		normal := q.one("")
		q.extend(normal.handle, 0) // dead at once
		dead := q.receiveDead("")
		require.Len(q.t, dead, 1)
		q.settle("RestoreDeadLetterQueueRecords", "", []string{dead[0].handle, "garbage"}, map[string]string{"garbage": invalid})
		require.Empty(q.t, q.receiveDead(`"WaitTimeSeconds":1`))
		again := q.one("")
		require.Equal(q.t, 1, again.count)
		require.Equal(q.t, first.first, again.first)
		require.Equal(q.t, first.id, again.id)
		for _, h := range []string{first.handle, normal.handle} {
			q.settle("AcknowledgeQueueRecords", "", []string{h}, map[string]string{h: invalid})
		}
		q.settle("RestoreDeadLetterQueueRecords", "", []string{dead[0].handle}, map[string]string{dead[0].handle: invalid})
		q.settle("AcknowledgeDeadLetterQueueRecords", "", []string{dead[0].handle}, map[string]string{dead[0].handle: invalid})
		pass(10 * time.Second)
		require.Equal(q.t, 2, q.one("").count)
		pass(10 * time.Second)
		q.nothing()
		require.Len(q.t, q.receiveDead(""), 1)
	})
}

// A lower limit turns records with that many deliveries into dead letters; a higher one
// revives none.
func TestRawMaxReceiveCountChanges(t *testing.T) {
	queueInBubble(t, `"VisibilityTimeoutSeconds":1`, func(q *queueRig) {
		limit := func(configuration string) {
			q.t.Helper()
			a := q.send("UpdateQueue", `"QueueAttributes":{"DeadLetterConfiguration":{`+configuration+`}}`)
			require.Equal(q.t, 200, a.status, a.body)
		}
		q.put("a")
		for range 2 {
			q.one("")
			pass(time.Second)
		}
		q.put("b")
		flying := q.receive(`"VisibilityTimeoutSeconds":600`) // a for the third time, b for the first
		require.Len(q.t, flying, 2)
		q.put("c")
		for range 2 {
			q.one("")
			pass(time.Second)
		}
		limit(`"TargetType":"BUILT_IN","MaxReceiveCount":2`)
		q.nothing() // c is dead without another delivery
		dead := q.receiveDead(`"VisibilityTimeoutSeconds":0`)
		require.Len(q.t, dead, 1)
		require.Equal(q.t, "c", dead[0].data)
		for _, d := range flying { // a may finish its delivery
			q.acknowledge(d.handle)
		}
		limit(`"TargetType":"BUILT_IN","MaxReceiveCount":100`)
		q.nothing()
		limit(`"TargetType":"NONE"`)
		q.nothing()
		dead = q.receiveDead("")
		require.Len(q.t, dead, 1)
		q.settle("RestoreDeadLetterQueueRecords", "", []string{dead[0].handle}, nil)
		require.Equal(q.t, "c", q.one("").data)
	})
}

// Records that expire by retention are gone, whatever their state.
func TestRawQueueRetention(t *testing.T) {
	queueInBubble(t, `"VisibilityTimeoutSeconds":43200,"DeadLetterConfiguration":{"TargetType":"BUILT_IN","MaxReceiveCount":1}`, func(q *queueRig) {
		q.put("dead")
		q.one(`"VisibilityTimeoutSeconds":0`)
		pass(13 * time.Hour)
		dead := q.receiveDead("")
		require.Len(q.t, dead, 1)
		q.put("flying", "never received")
		flying := q.one(`"Limit":1`)
		pass(25 * time.Hour)
		q.nothing()
		require.Empty(q.t, q.receiveDead(`"WaitTimeSeconds":1`))
		q.acknowledge(flying.handle)
		q.settle("UpdateQueueRecordsVisibility", `"VisibilityTimeoutSeconds":1`, []string{flying.handle}, map[string]string{flying.handle: notFound})
		q.settle("RestoreDeadLetterQueueRecords", "", []string{dead[0].handle}, map[string]string{dead[0].handle: notFound})
		q.put("new")
		require.Equal(q.t, "new", q.one("").data)
	})
}

// During reshards no record is lost or delivered twice. Users cannot reshard an on-demand
// stream, so the database does.
func TestRawQueueReshard(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.onDemand("s")
		a := r.createQueue("q", "s", `"Type":"LATEST"`, "")
		q := &queueRig{r, description(t, a)["QueueARN"].(string)}
		stream, err := r.db.Stream("s")
		require.NoError(t, err)
		want := make(map[string]bool)
		put := func(phase string) {
			for i := range 40 {
				data := fmt.Sprintf("%s %d", phase, i)
				want[data] = true
				r.doesf("PutRecord", `{"StreamName":"s","PartitionKey":%q,"Data":%q}`, data, base64Of(data))
			}
		}
		put("before")
		first := q.receive("")
		lower, upper, err := stream.SplitShard(r.t.Context(), stream.Shards()[0].ID(), nil)
		require.NoError(t, err)
		put("split")
		pass(2 * time.Second)
		_, err = stream.MergeShards(r.t.Context(), lower.ID(), upper.ID())
		require.NoError(t, err)
		put("merged")
		got := first
		for len(got) < 120 {
			page := q.receive("")
			require.NotEmpty(t, page)
			got = append(got, page...)
		}
		q.nothing()
		for _, d := range got {
			require.True(t, want[d.data], d.data)
			delete(want, d.data)
			q.acknowledge(d.handle)
		}
		require.Empty(t, want)
	})
}

// A receive returns at most 10 MiB of data.
func TestRawReceiveBytes(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		q.doesf("UpdateMaxRecordSize", `{"StreamARN":"%ss","MaxRecordSizeInKiB":10240}`, streamARN)
		big := base64Of(string(make([]byte, 6<<20)))
		for range 2 {
			q.doesf("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":%q}`, big)
		}
		q.one("")
		q.one("")
		q.nothing()
	})
}

// A record of a stream with the strategy AUTO may have no partition key.
func TestRawReceiveWithoutKey(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		q.doesf("UpdateStreamRecordDistributionStrategy", `{"StreamARN":"%ss","RecordDistributionStrategy":"AUTO"}`, streamARN)
		q.does("PutRecord", `{"StreamName":"s","Data":"AAAA"}`)
		require.NotContains(q.t, q.send("ReceiveQueueRecords", "").body, "PartitionKey")
	})
}

// Encrypted records are delivered as they were put.
func TestRawReceiveEncrypted(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		q.does("StartStreamEncryption", `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/one"}`)
		q.put("a")
		require.Equal(q.t, "a", q.one("").data)
	})
}

func TestRawHandles(t *testing.T) {
	queueInBubble(t, "", func(q *queueRig) {
		q.put("a")
		h := q.one("").handle
		for i := range len(h) {
			changed := []byte(h)
			changed[i] ^= 1
			if changed[i] < '!' || changed[i] > '~' || changed[i] == '"' || changed[i] == '\\' {
				continue
			}
			q.settle("AcknowledgeQueueRecords", "", []string{string(changed)}, map[string]string{string(changed): invalid})
		}
		q.acknowledge(h)
	})
}
