package service

import "context"

// ListChannelsInput is the request of ListChannels.
type ListChannelsInput struct {
	MaxResults   *int32         `kinesis:"PageLimit"`
	NextToken    *string        `kinesis:"NextToken"`
	StreamFilter []StreamFilter `kinesis:"StreamList"`
}

// ListChannelsOutput is the answer of ListChannels.
type ListChannelsOutput struct {
	ChannelSummaries []Empty
	NextToken        *string // there is never another page
}

// ChannelInput is the request of the other operations on channels.
type ChannelInput struct{}

// ListChannels is the operation of that name. There are none.
func (s *Service) ListChannels(context.Context, Caller, *ListChannelsInput) (*ListChannelsOutput, error) {
	return &ListChannelsOutput{ChannelSummaries: []Empty{}}, nil
}

// channel is the operation of each name that creates, changes, describes or deletes a
// channel. All are refused: a channel delivers to Amazon S3, which this service does not
// have.
func (s *Service) channel(context.Context, Caller, *ChannelInput) (*Empty, error) {
	return nil, unknownOperation("Channels deliver to Amazon S3 and are not available from this service.")
}
