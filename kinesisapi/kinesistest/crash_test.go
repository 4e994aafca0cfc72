package kinesistest

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestCrashLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t, Stream("orders", 2))
		client := k.Kinesis()
		var mu sync.Mutex
		var acknowledged []string
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for n := range 100 {
					data := fmt.Sprint(w, "-", n)
					if putRecord(t.Context(), client, fmt.Sprint(w), data) == nil {
						mu.Lock()
						acknowledged = append(acknowledged, data)
						mu.Unlock()
					}
					if n%10 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		old := iterator(t, client, shard0)
		for n := range 5 {
			time.Sleep(time.Duration(n+1) * time.Millisecond)
			k.Crash()
		}
		writers.Wait()
		getRecords(t, client, old)

		stored := make(map[string]bool)
		for _, rec := range k.Records("orders") {
			stored[rec.Data] = true
		}
		require.Greater(t, len(acknowledged), 100)
		for _, data := range acknowledged {
			require.True(t, stored[data], data)
		}
	})
}

func TestCrashBreaksOffWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		k.Delay("PutRecord", 2, time.Minute)
		results := make(chan error, 2)
		go func() { results <- putRecord(t.Context(), k.Kinesis(once), "a", "lost") }()
		go func() { results <- putRecord(t.Context(), k.Kinesis(), "a", "tried again") }()
		time.Sleep(30 * time.Second)
		k.Crash()
		require.ElementsMatch(t, []bool{true, false}, []bool{<-results == nil, <-results == nil})
		require.ElementsMatch(t, []string{noAnswer, noAnswer, ""}, errorsOf(k.Calls("PutRecord")))
		k.RequireRecords("orders", "tried again")
	})
}

func TestCrashInRealTime(t *testing.T) {
	t.Parallel()
	k := New(t, Stream("orders", 1))
	client := k.Kinesis()
	k.Put("orders", "a", "one")
	old := iterator(t, client, shard0)
	k.Crash()
	require.NoError(t, putRecord(t.Context(), client, "a", "two"))
	require.Equal(t, []string{"one", "two"}, dataOf(getRecords(t, client, old).Records))
	k.RequireCaughtUp("orders")
}

func TestCrashTakesWhatWasNotSynced(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		k := NewWith(t, &Options{Durability: braid.NoSync}, Stream("orders", 1))
		var want []string
		for n := range 10 {
			want = append(want, fmt.Sprint(n))
			require.NoError(t, putRecord(t.Context(), k.Kinesis(), "a", want[n]))
		}
		k.RequireRecords("orders", want...)
		k.Crash()
		var got []string
		if len(k.DB().Streams()) > 0 {
			for _, rec := range k.Records("orders") {
				got = append(got, rec.Data)
			}
		}
		require.Less(t, len(got), len(want))
		require.Equal(t, want[:len(got)], append([]string{}, got...))
	})
}
