// Package inspect has an HTTP handler for an open database: a page, a JSON API and live
// events about its streams, shards, records, applications, queues and storage.
//
//	page := inspect.Handler(db, nil)
//	http.Handle("/braid/", http.StripPrefix("/braid", page))
//	log.Fatal(http.ListenAndServe("localhost:8080", nil))
//
// The handler works under any prefix that is stripped, since all its links are relative.
// The page itself must be requested with a slash at the end. Everything that the page
// needs is embedded in the program, and nothing is fetched from elsewhere.
//
// # Who can use it
//
// Anybody who can reach the handler can read the database. Serve it on a loopback
// address, or behind the application's own authentication: see [Options].Authorize.
//
// Pages of other sites cannot use it through the browser of someone who can reach it:
// requests from other origins, and requests under unexpected host names, are refused, as
// [CheckSite] describes. GET never changes anything. Changes use POST, and need
// [Options].Writable and a header that pages of other sites cannot send.
//
// # Limits
//
// No answer grows with the database. An answer has at most 1,000 records, 1,000 shards, 1,000
// streams, 100 applications or 1,000 queues, and reports whether there are more. A search looks at
// no more than 10,000 records or 8 MiB, and returns where to continue. Up to 4 KiB of data are
// shown of each record, and neither key nor data of encrypted records, unless the request asks for
// them. A live tail sends 20 records per second, or as many as requested, and reports how many it
// has left out. At most 64 live connections are served at the same time.
//
// # JSON
//
// Paths are relative to the handler. Values are the JSON of the types of packages braid,
// consumer and queue. Errors are answered with a status of 4xx or 5xx and {"Error": text,
// "Kind": sentinel, "Type": name, "Detail": typed error}. The Kind is the name of an error of
// those packages without its Err, such as "StreamNotFound". If the error has details, the
// Type is that of the Detail, such as "TrimmedError".
//
//	GET  healthz                                200 while the storage works, else 503
//	GET  readyz                                 200 while it accepts writes, else 503
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
// A POST needs a header Braid-Inspect with any value, and JSON as its Content-Type.
//
// Requests for records have these parameters: from, a position that [braid.ParsePosition]
// accepts, TRIM_HORIZON by default; or instead last, 1 to 10,000, to look only at that many
// of the newest records; limit, 1 to 1,000 records, 100 by default; key, only records with that
// partition key; match, only records whose key or data contains the text; data, the
// maximum number of bytes of each record's data, 4,096 by default; and encrypted=show.
// With last, the newest records that match are shown. The answer has the position Next,
// from which to continue.
//
// A tail has the parameters stream (required), shard, from (LATEST by default), key,
// match, data, encrypted, and rate: 1 to 1,000 records per second, 20 by default, or
// "all", which leaves nothing out and waits for the client. Its events are record, with
// the sequence number as id; left-out, with the numbers of Records and Bytes that were
// not sent; and end, the last one, with an Error unless the shard has ended.
// Last-Event-ID resumes a tail.
package inspect
