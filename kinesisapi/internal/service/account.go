package service

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/braidstream/braid"
)

// The statuses of an account's commitment to a minimum throughput.
const (
	commitmentEnabled  = "ENABLED"
	commitmentEnding   = "ENABLED_UNTIL_EARLIEST_ALLOWED_END"
	commitmentDisabled = "DISABLED"

	minCommitment = 24 * time.Hour
)

// commitmentRow is the stored row of an account's commitment.
type commitmentRow struct {
	Started, Ended time.Time `json:",omitzero"`
}

func (r *commitmentRow) status() string {
	switch {
	case r.Started.IsZero(), !r.Ended.IsZero() && !r.Ended.After(time.Now()):
		return commitmentDisabled
	case !r.Ended.IsZero():
		return commitmentEnding
	default:
		return commitmentEnabled
	}
}

func (r *commitmentRow) commitment() Commitment {
	out := Commitment{Status: r.status()}
	if !r.Started.IsZero() {
		out.StartedAt = &r.Started
		if out.Status != commitmentDisabled {
			out.EarliestAllowedEndAt = new(r.Started.Add(minCommitment))
		}
	}
	if !r.Ended.IsZero() {
		out.EndedAt = &r.Ended
	}
	return out
}

func commitmentKey(c Caller) []byte {
	return []byte(rowPrefix + "account/" + c.Account + "/" + c.Region)
}

func getCommitment(tx *braid.Tx, c Caller) (row commitmentRow, err error) {
	value, err := tx.Get(commitmentKey(c))
	if errors.Is(err, braid.ErrKeyNotFound) {
		return row, nil
	}
	if err == nil {
		err = json.Unmarshal(value, &row)
	}
	return row, err
}

func (s *Service) commitment(ctx context.Context, c Caller) (row commitmentRow, err error) {
	err = s.db.View(ctx, func(tx *braid.Tx) error {
		row, err = getCommitment(tx, c)
		return err
	})
	return row, err
}

// DescribeAccountSettings is the operation of that name.
func (s *Service) DescribeAccountSettings(ctx context.Context, c Caller, _ *DescribeAccountSettingsInput) (*AccountSettingsOutput, error) {
	t := s.named(c, "")
	row, err := s.commitment(ctx, t.Caller)
	return &AccountSettingsOutput{row.commitment()}, s.fromBraid(t, err)
}

// UpdateAccountSettings is the operation of that name. A commitment lasts for at least 24
// hours: if it is disabled earlier, it still ends then.
func (s *Service) UpdateAccountSettings(ctx context.Context, c Caller, in *UpdateAccountSettingsInput) (*AccountSettingsOutput, error) {
	t := s.named(c, "")
	var row commitmentRow
	err := s.db.Update(ctx, func(tx *braid.Tx) (err error) {
		if row, err = getCommitment(tx, t.Caller); err != nil {
			return err
		}
		now := time.Now().UTC()
		status := row.status()
		switch *in.MinimumThroughputBillingCommitment.Status {
		case commitmentEnabled:
			if status == commitmentDisabled {
				row.Started = now
			}
			row.Ended = time.Time{}
		default:
			if status == commitmentEnabled {
				row.Ended = row.Started.Add(minCommitment)
				if row.Ended.Before(now) {
					row.Ended = now
				}
			}
		}
		value, err := json.Marshal(row)
		if err != nil {
			return err
		}
		return tx.Set(commitmentKey(t.Caller), value)
	})
	return &AccountSettingsOutput{row.commitment()}, s.fromBraid(t, err)
}
