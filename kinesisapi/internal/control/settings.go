package control

import (
	"net/http"
	"time"
)

// Settings are the settings of the server that no operation returns.
type Settings struct {
	SeparateAccounts, CheckAuthorization                              bool
	ControlHosts                                                      []string // besides loopback names and addresses
	CreateDelay, UpdateDelay, DeleteDelay, BodyTimeout, AnswerTimeout time.Duration
}

// settings is the JSON of an answer: Settings, and the current values of changeable
// settings.
type settings struct {
	Account             string `json:"account"`
	Region              string `json:"region"`
	SeparateAccounts    bool   `json:"separateAccounts"`
	CheckAuthorization  bool   `json:"checkAuthorization"`
	ExactLimits         bool   `json:"exactLimits"`
	ShardLimit          int    `json:"shardLimit"`
	OnDemandStreamLimit int    `json:"onDemandStreamLimit"`
	CreateDelay         string `json:"createDelay"`
	UpdateDelay         string `json:"updateDelay"`
	DeleteDelay         string `json:"deleteDelay"`
	BodyTimeout         string `json:"bodyTimeout"`
	AnswerTimeout       string `json:"answerTimeout"`

	ControlHosts []string `json:"controlHosts"`
}

func (h *handler) showSettings(r *http.Request) (any, error) {
	c, _, err := h.who(r)
	if err != nil {
		return nil, err
	}
	shards, streams := h.svc.Quotas(c.Region)
	s := h.settings
	return settings{
		Account: c.Account, Region: c.Region,
		SeparateAccounts: s.SeparateAccounts, CheckAuthorization: s.CheckAuthorization,
		ExactLimits: h.svc.ExactLimits(), ShardLimit: shards, OnDemandStreamLimit: streams,
		CreateDelay: s.CreateDelay.String(), UpdateDelay: s.UpdateDelay.String(), DeleteDelay: s.DeleteDelay.String(),
		BodyTimeout: timeout(s.BodyTimeout), AnswerTimeout: timeout(s.AnswerTimeout),
		ControlHosts: append([]string{}, s.ControlHosts...), // an empty list rather than null
	}, nil
}

func timeout(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return d.String()
}
