package server

import (
	"net/http"
	"strings"
)

// hintAccounts logs, once, that a client signs for another account or region than the
// server's. Such a client may expect separate streams. It runs for every request, so it
// does not allocate if the signature is in the header.
func (s *Server) hintAccounts(r *http.Request) {
	if s.opts.SeparateAccounts || !s.opts.HintAccounts || s.hinted.Load() {
		return
	}
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=") // key/date/region/service/aws4_request
	if scope == "" && r.URL.RawQuery != "" {
		scope = credential(r)
	}
	key, rest, _ := strings.Cut(scope, "/")
	_, rest, _ = strings.Cut(rest, "/")
	region, _, ok := strings.Cut(rest, "/")
	otherRegion := ok && region != s.opts.Region && isRegion.MatchString(region)
	otherAccount := ok && len(key) == 12 && key != s.opts.Account && isAccount.MatchString(key)
	if !otherRegion && !otherAccount || s.hinted.Swap(true) {
		return
	}
	if !otherAccount {
		key = s.opts.Account
	}
	s.opts.Logger.Warn("a request is signed for another account or region and is served the same streams as all others; "+
		"SeparateAccounts (-separate-accounts) keeps them apart. This is logged once",
		"account", key, "region", region, "servingAccount", s.opts.Account, "servingRegion", s.opts.Region)
}
