package consumer

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/braidstream/braid"
)

// Internals for tests outside the package.

// DBSource is the source of a database's streams.
type DBSource = dbSource

// NewDBSource returns the source of a database's streams.
func NewDBSource(db *braid.DB) Source { return dbSource{db} }

// NewDBLeases returns the store of an application's leases in a database.
func NewDBLeases(db *braid.DB, app string) LeaseStore { return dbLeases{db, app} }

// DecodeLease reads a stored lease.
var DecodeLease = decodeLease

// Before reports whether c lies before other.
func (c Checkpoint) Before(other Checkpoint) bool { return c.before(other) }

// Steps returns how many rows and shards the passes of an application's group have visited.
func Steps(db *braid.DB, app string) int64 { return groupOf(db, &Config{App: app}).steps.Load() }

// CheckView compares the survey that the group of an application keeps with one that is
// made anew. Nothing may run meanwhile.
func CheckView(ctx context.Context, db *braid.DB, app string) error {
	g := groupOf(db, &Config{App: app})
	if g.view == nil || !g.running {
		return nil
	}
	if known, err := g.refresh(ctx, g.view); err != nil || !known {
		g.view = nil // the next pass makes it anew
		return err
	}
	names := slices.Collect(maps.Keys(g.view.streams))
	want, err := g.survey(ctx, names)
	if err != nil {
		return err
	}
	differ := func(what string, got, want any) error {
		if reflect.DeepEqual(got, want) {
			return nil
		}
		return fmt.Errorf("%s: the view has %+v, and a new survey %+v", what, got, want)
	}
	if err := differ("rows", plainRows(g.view), plainRows(want)); err != nil {
		return err
	}
	if err := differ("children", childrenOf(g.view), childrenOf(want)); err != nil {
		return err
	}
	for name, view := range g.view.streams {
		other := want.streams[name]
		if !maps.Equal(view.lost, other.lost) {
			return differ("lost shards of "+name, view.lost, other.lost)
		}
		if len(view.orphans) != len(other.orphans) {
			return differ("orphans of "+name, view.orphans, other.orphans)
		}
	}
	if err := differ("shards", len(g.view.items), len(want.items)); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	planned, free, counts := 0, make(map[LeaseKey]*item), make(map[string]int)
	for key, it := range g.view.items {
		other := want.items[key]
		if other == nil {
			return fmt.Errorf("%s is gone", key)
		}
		got := *it
		got.assignee, got.taken, got.standing = "", false, nil
		if err := differ(key.String(), got, *other); err != nil {
			return err
		}
		if l := it.standing; l != nil {
			planned++
			if l.Free {
				free[key] = it
			} else {
				counts[l.Owner]++
			}
		}
	}
	return differ("standings", []any{g.view.planned, g.view.free, g.view.counts}, []any{planned, free, counts})
}

func plainRows(s *survey) map[LeaseKey]Lease {
	rows := make(map[LeaseKey]Lease)
	for key, row := range s.rows {
		rows[key] = *row
	}
	return rows
}

func childrenOf(s *survey) map[LeaseKey][]LeaseKey {
	children := make(map[LeaseKey][]LeaseKey)
	for parent, items := range s.children {
		for _, it := range items {
			children[parent] = append(children[parent], it.lease.LeaseKey)
		}
		slices.SortFunc(children[parent], compareKeys)
	}
	return children
}

// HeldBytes returns how many bytes the shards of a worker hold of its budget.
func HeldBytes(w *Worker) int64 { return w.budget.held.Load() }
