package inspect

import (
	"net/http"
	"time"

	"github.com/braidstream/braid"
)

type storageAnswer struct {
	Time    time.Time
	Metrics braid.Metrics
	Losses  []braid.Loss // the last 100 that were accepted
}

const maxLosses = 100

func (h *handler) storage(r *http.Request) (any, error) {
	if err := onlyParameters(r); err != nil {
		return nil, err
	}
	losses := h.db.Losses()
	return storageAnswer{time.Now(), h.db.Metrics(), losses[max(0, len(losses)-maxLosses):]}, nil
}
