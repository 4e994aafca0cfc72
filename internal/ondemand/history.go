package ondemand

import "time"

// Interval is how often the load is evaluated. Minutes, below, count from an arbitrary start.
const Interval = time.Minute

// QuietTime is how long adjacent shards must be cold before they are merged.
const QuietTime = 6 * time.Hour

const (
	quarter  = 15 // minutes
	quarters = int(QuietTime / (quarter * Interval))
	peakDays = 30 // how long a peak counts
)

// Count is the load of a shard in a minute: records that were put or refused.
type Count struct {
	Records, Bytes uint64
	Parts          [Parts]uint64 // the cost, by part of the shard's range
}

// History is the load of a shard. It comes from [NewHistory].
type History struct {
	// Stayed is the reason last reported for not splitting the shard; "" if there is none.
	Stayed string

	first, last int64          // the first and the last minute observed
	minutes     [quarter]Load  // averages, by minute modulo 15
	quarters    [quarters]Load // peaks of the minutes in each quarter of an hour
	parts       [Parts]float64 // fades by half in each minute
}

// NewHistory returns the history of a shard whose first minute is the given one.
func NewHistory(minute int64) *History { return &History{first: minute, last: minute - 1} }

// Add adds the load of a minute, nil for none, and returns its average per second.
func (h *History) Add(load *Count, minute int64) (average Load) {
	for m := max(h.last+1, minute-int64(QuietTime/Interval)); m <= minute; m++ { // the minutes between had no load
		h.minutes[m%quarter] = Load{}
		if m%quarter == 0 || m == h.first {
			h.quarters[m/quarter%int64(quarters)] = Load{}
		}
		for i := range h.parts {
			h.parts[i] /= 2
		}
	}
	h.last = minute
	if load == nil {
		return average
	}
	seconds := Interval.Seconds()
	average = Load{Records: float64(load.Records) / seconds, Bytes: float64(load.Bytes) / seconds}
	h.minutes[minute%quarter] = average
	highest := &h.quarters[minute/quarter%int64(quarters)]
	*highest = highest.Max(average)
	for i, n := range load.Parts {
		h.parts[i] += float64(n)
	}
	return average
}

// Describe fills in the loads of the shard as of the last minute added, as far as the history
// is long enough.
func (h *History) Describe(sh *Shard) {
	latest := h.minutes[h.last%quarter]
	sh.Minute, sh.Parts = &latest, h.parts
	if h.last-h.first >= quarter-1 {
		sh.Quarter = new(Load)
		for _, m := range h.minutes {
			sh.Quarter.Records += m.Records / quarter
			sh.Quarter.Bytes += m.Bytes / quarter
		}
	}
	if h.last-h.first >= int64(QuietTime/Interval) {
		sh.Quiet = new(Load)
		for _, q := range h.quarters {
			*sh.Quiet = sh.Quiet.Max(q)
		}
	}
}

// Peaks are the highest loads of a stream in each of the last 30 days. The zero value is
// ready for use.
type Peaks struct {
	last int64          // day
	days [peakDays]Load // by day modulo peakDays
}

// Add adds the load of a minute, and returns the highest of the last peakDays days.
func (p *Peaks) Add(load Load, minute int64) (peak Load) {
	day := minute / int64(24*time.Hour/Interval)
	for d := max(p.last+1, day-peakDays+1); d <= day; d++ {
		p.days[d%peakDays] = Load{}
	}
	p.last = day
	p.days[day%peakDays] = p.days[day%peakDays].Max(load)
	for _, d := range p.days {
		peak = peak.Max(d)
	}
	return peak
}
