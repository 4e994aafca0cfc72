// Package inspect is a page, a JSON API and live events about an open database: its
// streams, shards, records, applications, queues and storage.
//
//	page := inspect.Handler(db, nil)
//	http.Handle("/braid/", http.StripPrefix("/braid", page))
//	log.Fatal(http.ListenAndServe("localhost:8080", nil))
//
// It works under any prefix that is stripped, since all its links are relative; the page
// itself ends in a slash. Everything that the page needs is embedded in the program, and
// nothing is fetched from elsewhere.
//
// # Who can use it
//
// Anybody who can reach the handler sees what is in the database. It belongs on a loopback
// address, or behind the application's own authentication: see [Options].Authorize.
//
// Pages of other sites cannot use it through a browser of somebody who can: requests of
// other origins, and under names of hosts that are not expected, are refused, as
// [CheckSite] says. GET never changes anything. Changes are POST, need
// [Options].Writable, and a header that pages of other sites cannot send.
//
// # Bounds
//
// No answer grows with the database. An answer has at most 1,000 records, 1,000
// shards, 1,000 streams, 100 applications or 1,000 queues, and says if there is more;
// a search looks at no more than 10,000 records or 8 MiB, and says where to go on. Of
// each record up to 4 KiB of data are shown, and of an encrypted one neither key nor
// data, unless the request asks for them. A live tail shows 20 records a second, or what
// is asked for, and says how many it has left out. At most 64 live connections are
// served at once.
//
// # JSON
//
// Paths are relative to the handler. Values are those of packages braid, consumer and
// queue as these marshal themselves. What goes wrong is answered by a status of 4xx
// or 5xx and {"Error": text, "Kind": sentinel, "Detail": typed error}; the Kind is the
// name of an error of those packages without its Err, such as "StreamNotFound".
//
//	GET  healthz                                200 while the storage works, else 503
//	GET  readyz                                 200 while it takes writes, else 503
//	GET  api/info                               what can be done here
//	GET  api/streams                            streams with their totals: after, limit
//	GET  api/streams/{stream}                   settings and shards: after, limit, open
//	GET  api/streams/{stream}/history           what arrived when: step, points
//	GET  api/streams/{stream}/records           records of all shards in order of arrival
//	GET  api/streams/{stream}/shards/{shard}/records                records of a shard
//	GET  api/streams/{stream}/shards/{shard}/records/{sequence}     one record, whole
//	GET  api/tail                               records as they come, as events
//	GET  api/events                             an event at each change of streams and shards
//	GET  api/apps                               applications: after, limit
//	GET  api/apps/{app}                         the status of one: after, limit
//	GET  api/apps/{app}/deadletters             what it has put into a dead-letter stream
//	GET  api/queues                             queues: after, limit
//	GET  api/queues/{queue}                     one of them
//	GET  api/queues/{queue}/deadletters         the oldest of its dead letters: limit
//	GET  api/storage                            metrics, latencies, and losses that were accepted
//
//	POST api/streams                            {"Name", "Options"}, which are [braid.StreamOptions]
//	POST api/streams/{stream}/delete            {"Name"}, the stream's name again
//	POST api/streams/{stream}/records           {"Records": [{"PartitionKey", "ExplicitHashKey", "Data"}], "Wait"}
//	POST api/streams/{stream}/split             {"Shard", "At"}; without At, in the middle
//	POST api/streams/{stream}/merge             {"Shard", "Adjacent"}
//	POST api/streams/{stream}/scale             {"Shards"}
//	POST api/streams/{stream}/retention         {"Retention"}, {"RetentionBytes"} or both
//	POST api/streams/{stream}/trim              {"Before"}, a position
//	POST api/apps/{app}/pause                   {"Stream", "Shard"}; without them, all
//	POST api/apps/{app}/resume                  likewise
//	POST api/apps/{app}/seek                    {"Stream", "Shard", "To"}
//	POST api/apps/{app}/deadletters/putback     {"Stream", "SequenceNumber"} of the letter
//	POST api/queues/{queue}/restore             {"Receipts"} of dead letters, up to 1,000, or {"All": true}
//	POST api/queues/{queue}/discard             {"Receipts"} of dead letters, up to 1,000
//
// A POST has a header Braid-Inspect with any value, and JSON as its Content-Type.
//
// Parameters of records: from, a position as [braid.ParsePosition] reads it, TRIM_HORIZON
// by default; or last, to look at so many of the newest, 1 to 10,000, and to show the newest
// of those that fit; limit, 1 to 1,000 records, 100 by default;
// key, only records of that partition key; match, only those whose key or data contains the
// text; data, the most bytes of each record's data, 4,096 by default; and encrypted=show. The
// answer has the position Next, which is where to go on.
//
// A tail has the parameters stream (required), shard, from (LATEST by default), key, match,
// data, encrypted, and rate: 1 to 1,000 records a second, 20 by default, or "all", which
// leaves nothing out and goes at the pace of the client. Its events are record, with the
// sequence number as id; left-out, with how many Records and Bytes were not sent; and end,
// the last one, with an Error unless the shard has ended. Last-Event-ID resumes it.
package inspect
