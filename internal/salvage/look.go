package salvage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// Findings say which records are missing in a damaged database.
type Findings struct {
	Missing []Loss // records that no file has: Run would report them

	// GivenUp are the records that AcceptLoss would give up, including those in Missing.
	GivenUp []Loss

	// Doubt is why there may be more of them; nil if there are not.
	Doubt error
}

// Look finds out which records are missing in Config.From. damaged has the damaged files that
// an open has found. Look makes the passes of [Run], and writes nothing.
//
// It reads no table that is neither damaged nor of the newest epoch: it relies on the manifest
// and the rows of extents. So the cost does not grow with the undamaged records. The error
// says why there are no findings, for example because Config.MaxBytes or Config.MaxMemory was
// exceeded.
func Look(ctx context.Context, cfg Config, damaged []*kv.FileDamageError) (_ *Findings, err error) {
	src, err := kv.OpenSource(cfg.FS, cfg.From)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	s, err := newSurvey(ctx, cfg, src, damaged)
	if err != nil {
		return nil, err
	}
	s.budget = &budget{bytes: cfg.MaxBytes, memory: cfg.MaxMemory, cfg: &cfg}
	l := &looker{survey: s, queueRows: make(map[string]version), believed: make(map[uint32]bool), dropFrom: math.MaxUint64}
	l.noteBroken(damaged)
	for _, step := range []func() error{l.begin, l.readState, l.restoreState, l.restoreQueues, l.findBlocks, l.follow} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	records, _ := layout.RecordSpan()
	if len(l.streams) == 0 && (l.isTorn || len(l.wreck.Unread) > 0 || l.lostIn(nil, records)) {
		return nil, errors.New("nothing is left that says which streams there were")
	}
	return l.findings(), nil
}

// looker is one call of Look.
type looker struct {
	*survey
	queueRows map[string]version // the newest version of each
	believed  map[uint32]bool    // epochs that are not read, because the rows of extents say everything
	found     []foundBlock
	givenUp   losses
	blind     error  // why the manifest does not suffice for undamaged files; or nil
	dropFrom  uint64 // the number of the log from which on AcceptLoss keeps nothing
}

// noteBroken notes which conclusions the damaged files of the open do not allow.
func (l *looker) noteBroken(damaged []*kv.FileDamageError) {
	for _, d := range damaged {
		name := path.Base(d.File)
		if _, ok := wreck.NumberOf(name); !ok && l.blind == nil {
			l.blind = fmt.Errorf("other files cannot be compared with what was written while %s is damaged", d.File)
			if strings.Contains(name, "MANIFEST-") || name == "marker.manifest" { // AcceptLoss may go back to an earlier manifest
				l.blind = fmt.Errorf("%w; AcceptLoss may give up many more", l.blind)
			}
		}
	}
}

// readState is the first pass.
func (l *looker) readState() error {
	if err := l.readRows(l.keepQueueRow); err != nil {
		return err
	}
	for name, d := range l.broken {
		if !isLog(name) {
			continue
		}
		known := slices.ContainsFunc(l.report.Files, func(p wreck.Place) bool { return p.File == name })
		foreign := d.Damage == kv.FileForeign || !known // the former contents of the log are unknown
		if foreign {
			l.foreign, l.isTorn = true, true
		}
		if foreign || d.Offset < layout.LedgerHeadBytes { // AcceptLoss cannot distinguish it from a foreign log
			l.dropFrom = min(l.dropFrom, numberOf(name))
		}
	}
	return nil
}

// keepQueueRow keeps a row of a queue, and ignores all others.
func (l *looker) keepQueueRow(c wreck.Change) error {
	if !layout.IsQueueKey(c.Key) {
		return nil
	}
	key := string(c.Key)
	if was, found := l.queueRows[key]; found && c.Seq < was.seq {
		return nil
	}
	l.queueRows[key] = version{seq: c.Seq, deleted: c.Deleted, value: slices.Clone(c.Value)}
	return l.budget.keep(int64(len(c.Key) + len(c.Value)))
}

// restoreQueues finds out which records queues have received.
func (l *looker) restoreQueues() error {
	for _, key := range slices.Sorted(maps.Keys(l.queueRows)) {
		if row := l.queueRows[key]; !row.deleted {
			if _, err := l.queueRow(nowhere{}, []byte(key), row.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// findBlocks is the second pass.
func (l *looker) findBlocks() error {
	l.chooseEpochs()
	r := &blockReader{survey: l.survey, wants: l.wants, dropFrom: l.dropFrom}
	r.take = func(c wreck.Change, block *layout.Block) error {
		place, err := layout.DecodeBlockKey(c.Key)
		if err != nil || l.believed[place.Epoch] {
			return err
		}
		f := newFoundBlock(place, block)
		f.givenUp = r.file.Stale || r.behind || !r.log && !l.isWhole(r.file)
		return l.addBlock(f)
	}
	if err := l.readBlocks(r); err != nil {
		return err
	}
	if err := l.believeExtents(); err != nil {
		return err
	}
	slices.SortFunc(l.found, func(x, y foundBlock) int {
		return cmp.Or(cmp.Compare(x.place.Epoch, y.place.Epoch), comparePlaces(x.place, y.place), cmp.Compare(x.place.Counter, y.place.Counter))
	})
	n := 0
	for i, f := range l.found {
		if i > 0 && l.found[n-1].place == f.place {
			l.found[n-1].givenUp = l.found[n-1].givenUp && f.givenUp
			continue
		}
		l.found[n] = f
		n++
	}
	l.found = l.found[:n]
	return nil
}

func (l *looker) addBlock(f foundBlock) error {
	const size = 72
	l.found = append(l.found, f)
	return l.budget.keep(size)
}

// chooseEpochs notes which epochs need not be read: those without a damaged table whose
// blocks are certainly all in tables and whose ends are known, except the newest.
func (l *looker) chooseEpochs() {
	if l.blind != nil || len(l.wreck.Unread) > 0 {
		return
	}
	var newest uint32
	for id := range l.epochs {
		newest = max(newest, id)
	}
	doubted := make(map[uint32]bool)
	for number, st := range l.streams {
		for index, sh := range st.shards {
			for id, row := range sh.known {
				newest = max(newest, id)
				l.believed[id] = true
				if row.End.Counter == 0 || !l.rows[string(layout.ExtentKey(number, index, id))].stored {
					doubted[id] = true
				}
			}
		}
	}
	doubted[newest] = true
	read := func(key []byte) {
		if place, err := layout.DecodeBlockKey(key); err == nil {
			doubted[place.Epoch] = true
		}
	}
	for _, f := range l.wreck.Tables {
		if !f.Stale && !l.isWhole(f) {
			read(f.Through)
		}
	}
	for _, p := range l.wreck.Missing {
		read(p.Through)
	}
	for id := range doubted {
		delete(l.believed, id)
	}
}

// wants reports whether to read a table that has the key of a block.
func (l *looker) wants(f wreck.File, key []byte) bool {
	place, err := layout.DecodeBlockKey(key)
	return err != nil || !l.believed[place.Epoch] || !f.Stale && !l.isWhole(f)
}

// believeExtents adds the blocks of epochs that are not read, each extent as one.
func (l *looker) believeExtents() error {
	for number, st := range l.streams {
		for index, sh := range st.shards {
			for id, row := range sh.known {
				if !l.believed[id] || row.End.Ordinal <= row.FirstOrdinal || row.End.Counter <= max(row.FirstCounter, sh.row.Horizon.Counter) {
					continue
				}
				err := l.addBlock(foundBlock{
					place: layout.BlockKey{Epoch: id, Stream: number, Shard: index, Counter: row.End.Counter - 1},
					first: row.FirstCounter, ordinal: row.FirstOrdinal, offset: row.FirstOffset,
					count: row.End.Ordinal - row.FirstOrdinal, bytes: row.End.Offset - row.FirstOffset,
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// follow is the third pass.
func (l *looker) follow() error {
	return l.walk(&keptBlocks{l.found}, nowhere{}, &l.givenUp)
}

// keptBlocks are blocks in memory.
type keptBlocks struct{ rest []foundBlock }

// next implements blocks.
func (b *keptBlocks) next() (f foundBlock, ok bool, err error) {
	if len(b.rest) == 0 {
		return f, false, nil
	}
	f, b.rest = b.rest[0], b.rest[1:]
	return f, true, nil
}

// nowhere is a sink that keeps nothing.
type nowhere struct{}

func (nowhere) set(_, _ []byte) error  { return nil }
func (nowhere) remove(layout.BlockKey) {}

// findings returns the result.
func (l *looker) findings() *Findings {
	records, _ := layout.RecordSpan()
	f := &Findings{Missing: l.joined(l.report.Losses), GivenUp: l.joined(l.givenUp)}
	switch {
	case l.blind != nil:
		f.Doubt = l.blind
	case len(l.wreck.Unread) > 0:
		f.Doubt = errors.New("the manifest cannot be read, which says what files there were; AcceptLoss may give up many more")
	case l.foreign:
		f.Doubt = errors.New("a log is not the one that was written, and nothing tells what that one held")
	case len(l.report.Rows) > 0, len(l.orphans) > 0, l.lostIn(nil, records):
		f.Doubt = errors.New("rows about streams and shards are damaged as well")
	case l.isTorn && !l.clock.Closed:
		f.Doubt = errors.New("streams and shards that were created last may be missing altogether")
	}
	return f
}

// joined returns the losses in the order of streams and shards. It joins consecutive ones,
// and leaves out names that were made up.
func (l *looker) joined(all losses) (joined losses) {
	slices.SortStableFunc(all, func(x, y Loss) int {
		return cmp.Or(cmp.Compare(x.Stream, y.Stream), cmp.Compare(x.streamNumber, y.streamNumber), cmp.Compare(x.Shard, y.Shard), cmp.Compare(x.First, y.First))
	})
	for _, loss := range all {
		if st := l.streams[uint32(loss.streamNumber)]; st != nil && st.nameless {
			loss.Stream = ""
		}
		if n := len(joined); n > 0 && joined[n-1].precedes(&loss) {
			joined[n-1].extend(&loss)
			continue
		}
		joined = append(joined, loss)
	}
	return joined
}

// budget bounds how much is read and kept. nil means no bound.
type budget struct {
	bytes, memory int64 // that are left
	cfg           *Config
}

// read takes the size of the next read from the budget.
func (b *budget) read(n int64) error {
	if b == nil {
		return nil
	}
	if b.bytes -= n; b.bytes < 0 {
		return fmt.Errorf("more than %d MiB of files would have to be read", b.cfg.MaxBytes>>20)
	}
	return nil
}

// keep takes memory that will be kept from the budget.
func (b *budget) keep(n int64) error {
	if b == nil {
		return nil
	}
	const overhead = 64 // of an entry in a map
	if b.memory -= n + overhead; b.memory < 0 {
		return fmt.Errorf("more than %d MiB of rows would have to be kept in memory", b.cfg.MaxMemory>>20)
	}
	return nil
}
