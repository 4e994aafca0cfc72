package service

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/braidstream/braid"
)

const (
	maxTags     = 50 // of a stream, a consumer or a queue
	maxTagsPage = 50 // of ListTagsForStream
)

// checkNewTags checks tags that are to be added to existing ones.
func checkNewTags(t target, current, added map[string]string) error {
	if err := checkTagText(t, "add tags to", maps.All(added)); err != nil {
		return err
	}
	total := len(current)
	for key := range added {
		if strings.HasPrefix(key, "aws:") {
			return invalidArgument("Failed to add tags to stream %s under account %s because tag keys that start with aws: are reserved.", t.name, t.Account)
		}
		if _, ok := current[key]; !ok {
			total++
		}
	}
	if total > maxTags {
		// The service's text still has 10, its former limit.
		return invalidArgument("Failed to add tags to stream %s under account %s because a given stream cannot have more than 10 tags associated with it.", t.name, t.Account)
	}
	return nil
}

// checkTagText checks the characters of tags. The service checks them twice, against
// slightly different lists.
func checkTagText(t target, what string, tags func(func(string, string) bool)) error {
	const first, second = "_./=+-%@:", "_,./=+-@:"
	texts := slices.Collect(func(yield func(string) bool) {
		tags(func(key, value string) bool { return yield(key) && yield(value) })
	})
	if !slices.ContainsFunc(texts, func(s string) bool { return !allIn(s, first) }) {
		if slices.ContainsFunc(texts, func(s string) bool { return !allIn(s, second) }) {
			return invalidArgument("Failed to %s stream %s under account %s because some tags contained illegal characters. The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'.", what, t.name, t.Account)
		}
		return nil
	}
	return invalidArgument("Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
}

// allIn reports whether a text has only characters of others and of the class that AWS
// writes as [\p{L}\p{N}\p{Z}]: letters, numbers and separators. Separators are spaces of
// all widths, but not tabs or control characters. Marks count as parts of letters.
func allIn(s, others string) bool {
	for _, r := range s {
		if !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.Z) && !strings.ContainsRune(others, r) {
			return false
		}
	}
	return true
}

// AddTagsToStream is the operation of that name.
func (s *Service) AddTagsToStream(ctx context.Context, c Caller, in *AddTagsToStreamInput) (*Empty, error) {
	t, stream, err := s.stream(c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	return &Empty{}, s.addTags(ctx, t, stream, in.Tags)
}

func (s *Service) addTags(ctx context.Context, t target, stream *braid.Stream, tags map[string]string) error {
	if err := checkNewTags(t, stream.Describe().Tags, tags); err != nil {
		return err
	}
	return s.fromBraid(t, stream.AddTags(ctx, tags))
}

// RemoveTagsFromStream is the operation of that name.
func (s *Service) RemoveTagsFromStream(ctx context.Context, c Caller, in *RemoveTagsFromStreamInput) (*Empty, error) {
	t, stream, err := s.stream(c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if err := checkTagKeys(t, in.TagKeys); err != nil {
		return nil, err
	}
	return &Empty{}, s.fromBraid(t, stream.RemoveTags(ctx, in.TagKeys...))
}

func checkTagKeys(t target, keys []string) error {
	return checkTagText(t, "remove tags from", func(yield func(string, string) bool) {
		for _, key := range keys {
			if !yield(key, "") {
				return
			}
		}
	})
}

// ListTagsForStream is the operation of that name.
func (s *Service) ListTagsForStream(_ context.Context, c Caller, in *ListTagsForStreamInput) (*ListTagsForStreamOutput, error) {
	_, stream, err := s.stream(c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	out := &ListTagsForStreamOutput{Tags: []Tag{}}
	limit := page(in.Limit, maxTagsPage, maxTagsPage)
	for _, tag := range tagList(stream.Describe().Tags) {
		if in.ExclusiveStartTagKey != nil && tag.Key <= *in.ExclusiveStartTagKey {
			continue
		}
		if len(out.Tags) == limit {
			out.HasMoreTags = true
			break
		}
		out.Tags = append(out.Tags, tag)
	}
	return out, nil
}

// tagList returns tags by key.
func tagList(tags map[string]string) []Tag {
	list := make([]Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		value := tags[key]
		list = append(list, Tag{key, &value})
	}
	return list
}

// TagResource is the operation of that name.
func (s *Service) TagResource(ctx context.Context, c Caller, in *TagResourceInput) (*Empty, error) {
	r, err := s.resource(ctx, c, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if r.isStream() {
		return &Empty{}, s.addTags(ctx, r.t, r.stream, in.Tags)
	}
	return &Empty{}, s.changeAttributes(ctx, r, func(tags *map[string]string, _ *string) error {
		if err := checkNewTags(r.t, *tags, in.Tags); err != nil {
			return err
		}
		if *tags == nil {
			*tags = make(map[string]string)
		}
		maps.Copy(*tags, in.Tags)
		return nil
	})
}

// UntagResource is the operation of that name.
func (s *Service) UntagResource(ctx context.Context, c Caller, in *UntagResourceInput) (*Empty, error) {
	r, err := s.resource(ctx, c, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if err := checkTagKeys(r.t, in.TagKeys); err != nil {
		return nil, err
	}
	if r.isStream() {
		return &Empty{}, s.fromBraid(r.t, r.stream.RemoveTags(ctx, in.TagKeys...))
	}
	return &Empty{}, s.changeAttributes(ctx, r, func(tags *map[string]string, _ *string) error {
		for _, key := range in.TagKeys {
			delete(*tags, key)
		}
		return nil
	})
}

// ListTagsForResource is the operation of that name.
func (s *Service) ListTagsForResource(ctx context.Context, c Caller, in *ResourceInput) (*ListTagsForResourceOutput, error) {
	r, err := s.resource(ctx, c, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	tags, _, err := s.attributes(ctx, r)
	return &ListTagsForResourceOutput{tagList(tags)}, err
}
