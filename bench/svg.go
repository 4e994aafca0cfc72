package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Sizes of the chart, in pixels.
const (
	svgWidth     = 1080
	svgMargin    = 16
	svgRow       = 18
	svgLabels    = 430 // the width of rules
	svgPlot      = 360 // the width of bars
	svgHead      = 74
	svgOctaves   = 3 // on each side of the limit: a bar ends at 8 times and at 1/8 of it
	svgBarHeight = 11
)

const svgStyle = `
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.group { font-weight: 600; }
.faint { fill: #59636e; }
.grid { stroke: #d1d9e0; }
.limit { stroke: #1f2328; stroke-width: 1.5; }
.met { fill: #1a7f37; }
.missed { fill: #bc4c00; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .faint { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .limit { stroke: #e6edf3; }
  .met { fill: #3fb950; }
  .missed { fill: #f0883e; }
}
`

// drawSVG draws a bar for each measured target, on a logarithmic scale whose middle is the
// limit: met targets to the right, missed ones to the left.
func drawSVG(r *results) []byte {
	c := &svgChart{}
	met, missed, unknown := count(r.Targets)
	c.y = svgMargin + 16
	c.text(svgMargin, "title", "start", fmt.Sprintf("braid against its targets: %d met, %d missed, %d not measured", met, missed, unknown))
	c.y += 18
	c.text(svgMargin, "faint", "start", describeRun(r))
	c.y = svgHead
	last := ""
	for _, j := range r.Targets {
		if j.Value == nil {
			continue
		}
		if j.Workload != last {
			last = j.Workload
			c.y += svgRow + 4
			c.text(svgMargin, "group", "start", j.Workload)
		}
		c.bar(j)
	}
	c.y += svgRow
	return c.finish()
}

func describeRun(r *results) string {
	text := r.Machine.String()
	if n := len(r.Runs); n > 0 {
		text += ", " + r.Runs[n-1].Date.UTC().Format("2006-01-02")
	}
	return text
}

// svgChart is a chart that grows downwards.
type svgChart struct {
	body strings.Builder
	y    float64 // of the last row's baseline
}

func (c *svgChart) text(x float64, class, anchor, text string) {
	fmt.Fprintf(&c.body, `<text x="%g" y="%g" class="%s" text-anchor="%s">%s</text>`+"\n", x, c.y, class, anchor, svgEscape(text))
}

const svgMiddle = svgMargin + svgLabels + svgPlot/2

// bar draws the row of a target.
func (c *svgChart) bar(j judged) {
	c.y += svgRow
	c.text(svgMargin+svgLabels-8, "", "end", j.Target+": "+j.Rule)
	length := math.Abs(j.octaves()) * svgPlot / 2 / svgOctaves
	x, class := float64(svgMiddle), "met"
	if !*j.Met {
		x, class = svgMiddle-length, "missed"
	}
	fmt.Fprintf(&c.body, `<rect x="%.1f" y="%g" width="%.1f" height="%d" class="%s"/>`+"\n", x, c.y-svgBarHeight+1, max(length, 1), svgBarHeight, class)
	c.text(svgMargin+svgLabels+svgPlot+8, "", "start", number(*j.Value)+", "+j.outcome())
}

// octaves returns the logarithm to base 2 of how much better the value is than its limit,
// negative if it is worse, within the plot.
func (j judged) octaves() float64 {
	better := *j.Value / j.Limit
	if *j.Met != (better >= 1) { // at most
		better = 1 / better
	}
	if better <= 0 || math.IsNaN(better) { // a difference may be negative
		better = math.Inf(1)
		if !*j.Met {
			better = 0
		}
	}
	return min(max(math.Log2(better), -svgOctaves), svgOctaves)
}

// finish returns the whole image.
func (c *svgChart) finish() []byte {
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%g" viewBox="0 0 %d %g" role="img">`+"\n", svgWidth, c.y, svgWidth, c.y)
	fmt.Fprintf(&svg, "<style>%s</style>\n", svgStyle)
	for octave := -svgOctaves; octave <= svgOctaves; octave++ {
		x := float64(svgMiddle) + float64(octave)*svgPlot/2/svgOctaves
		class := "grid"
		if octave == 0 {
			class = "limit"
		}
		fmt.Fprintf(&svg, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%g" class="%s"/>`+"\n", x, svgHead, x, c.y-svgRow+4, class)
		fmt.Fprintf(&svg, `<text x="%.1f" y="%d" class="faint" text-anchor="middle">%s</text>`+"\n", x, svgHead-6, octaveName(octave))
	}
	svg.WriteString(c.body.String())
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

// octaveName names a line of the grid.
func octaveName(octave int) string {
	switch {
	case octave == 0:
		return "target"
	case octave > 0:
		return fmt.Sprintf("%d ×", 1<<octave)
	default:
		return fmt.Sprintf("1/%d", 1<<-octave)
	}
}

func svgEscape(text string) string {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(text)) // a strings.Builder returns no error
	return escaped.String()
}
