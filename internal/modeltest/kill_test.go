package modeltest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
)

// TestKill kills a writing process at random moments, many times over one directory. Every record
// that it reported as acknowledged exists, with its number; no number is used twice; shards have no
// gaps.
func TestKill(t *testing.T) {
	rounds := 24
	if testing.Short() {
		rounds = 4
	}
	dir := t.TempDir()
	acked := make(map[string]string) // number by id
	for round := range rounds {
		for id, number := range killOne(t, dir, round) {
			acked[id] = number
		}
		checkKilled(t, dir, acked)
	}
	require.NotEmpty(t, acked)
	t.Logf("%d kills, %d records acknowledged", rounds, len(acked))
}

// killOne runs a child until it has reported that the database is open, or a random number of
// acknowledgements, and returns the records that it reported by its end. What the child does at
// that moment is random, too.
func killOne(t *testing.T, dir string, round int) map[string]string {
	child := childtest.Start(t, fmt.Sprintf("%d|%s", round, dir), putUntilKilled)
	acked := make(map[string]string)
	enough := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		left := rand.IntN(300)
		for lines := bufio.NewScanner(child.Stdout); lines.Scan(); {
			switch fields := strings.Fields(lines.Text()); {
			case len(fields) == 1 && fields[0] == "opened":
			case len(fields) == 3 && fields[0] == "acked": // the last line may be torn
				if _, err := braid.ParseSequenceNumber(fields[2]); err != nil || len(fields[2]) != 56 {
					continue
				}
				acked[fields[1]] = fields[2]
			default:
				continue
			}
			if left == 0 {
				close(enough)
			}
			left--
		}
	}()
	select {
	case <-enough:
	case <-read:
		t.Fatal("the child ended by itself")
	}
	require.NoError(t, child.Kill())
	<-read
	require.NoError(t, child.Wait())
	return acked
}

// putUntilKilled is the child's work; arg has the number of its round and the directory.
func putUntilKilled(t *testing.T, arg string) {
	round, dir, _ := strings.Cut(arg, "|")
	ctx := context.Background()
	db, err := braid.Open(dir, &braid.Options{MemtableBytes: 1 << 20})
	require.NoError(t, err)
	s, err := db.OpenStream(ctx, "s", &braid.StreamOptions{Shards: 3})
	require.NoError(t, err)
	fmt.Println("opened")
	var running sync.WaitGroup
	for p := range 4 {
		running.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%s.%d.%d", round, p, i)
				res, err := s.PutRecord(ctx, id, historyData(id, 100+i%3*1000))
				if err != nil {
					fmt.Println(err)
					return
				}
				fmt.Printf("acked %s %s\n", id, res.SequenceNumber)
				if p == 0 && i%20 == 19 {
					if _, _, err := s.SplitShard(ctx, res.ShardID, nil); err != nil {
						fmt.Println(err)
					}
					if err := s.UpdateShardCount(ctx, 3); err != nil {
						fmt.Println(err)
					}
				}
			}
		})
	}
	running.Wait()
}

func checkKilled(t *testing.T, dir string, acked map[string]string) {
	db, err := braid.Open(dir, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	s, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 3})
	require.NoError(t, err)
	require.NoError(t, checkTiling(s.Describe()))
	records, err := readShards(t.Context(), s)
	require.NoError(t, err)
	found := make(map[string]string)
	numbers := make(map[braid.SequenceNumber]bool)
	for _, r := range records {
		id, whole := historyID(r.Data)
		require.True(t, whole, "%.100q", r.Data)
		require.Empty(t, found[id], "%s is stored twice", id)
		require.False(t, numbers[r.SequenceNumber], "%s was used twice", r.SequenceNumber)
		found[id], numbers[r.SequenceNumber] = r.SequenceNumber.String(), true
	}
	for id, number := range acked {
		require.Equal(t, number, found[id], "%s was acknowledged", id)
	}
}
