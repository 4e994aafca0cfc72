package wake_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/wake"
)

func TestRingsWhileAtWorkAreOneMoreRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bell := wake.NewBell()
		busy, runs := make(chan struct{}), 0
		go func() {
			for range bell.C() {
				runs++
				if _, open := <-busy; !open {
					return
				}
			}
		}()
		bell.Ring()
		synctest.Wait()
		require.Equal(t, 1, runs)
		for range 3 {
			bell.Ring()
		}
		busy <- struct{}{}
		synctest.Wait()
		require.Equal(t, 2, runs, "it was at work when the bell rang")
		busy <- struct{}{}
		synctest.Wait()
		require.Equal(t, 2, runs, "three rings are one run")
		bell.Ring()
		synctest.Wait()
		close(busy)
		require.Equal(t, 3, runs)
	})
}

func TestASignalWakesAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s wake.Signal
		s.Raise() // nobody waits
		before := s.Wait()
		woken := make(chan int, 3)
		for i := range 3 {
			ch := s.Wait()
			go func() {
				<-ch
				woken <- i
			}()
		}
		synctest.Wait()
		require.Empty(t, woken)
		s.Raise()
		synctest.Wait()
		require.Len(t, woken, 3)
		<-before
		select {
		case <-s.Wait():
			t.Fatal("a channel taken after the raise waits for the next one")
		default:
		}
	})
}
