package main

import (
	"iter"
	"maps"

	"github.com/spf13/cobra"
)

// completeStreams completes the names of streams, for shells.
func (p *program) completeStreams(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	_ = p.withStore(cmd.Context(), reads, func(s store) error { // without a store there are no suggestions
		streams, err := s.Streams(cmd.Context())
		for _, d := range streams {
			names = append(names, d.Name)
		}
		return err
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeApps completes the names of applications.
func (p *program) completeApps(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	_ = p.withStore(cmd.Context(), reads, func(s store) (err error) {
		names, err = s.Apps(cmd.Context())
		return err
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeQueues completes the names of queues.
func (p *program) completeQueues(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	_ = p.withStore(cmd.Context(), reads, func(s store) error {
		queues, err := s.Queues(cmd.Context())
		for i := range queues {
			names = append(names, queues[i].Name)
		}
		return err
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

func keysOf[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
