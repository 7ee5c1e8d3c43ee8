package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
	"parley/functions/stream"
)

// bus plays a region's EventBridge bus with an archive: subscribers can read again from any entry
// that is among the last so many.
//
// Each entry has a number that is greater than all before it. Entries are written without fsync, so
// a crash may lose the last of them, and their events come again from the change stream. The numbers
// leap at every start, so that a number which a subscriber has seen is never given to another entry. A
// subscriber that resumes after a lost entry gets what was put on the bus since that start.
type bus struct {
	db   *pebble.DB
	show showEvents // applied to what is delivered
	keep uint64     // entries in the archive

	mu      sync.RWMutex
	id      [16]byte      // random: the ids of all entries are derived from it
	last    uint64        // the greatest number so far
	count   uint64        // how many entries were ever put on the bus
	trimmed uint64        // the greatest number that is no longer in the archive
	oldest  uint64        // the count of the oldest entry in the archive
	changed chan struct{} // closed and replaced when there is more to read
}

// showEvents is [projections.ShowEvents] of a region.
type showEvents func(ctx context.Context, es ...events.Event) ([]events.Event, error)

const (
	defaultArchive = 100_000   // entries that a bus keeps
	leap           = 1_000_000 // more than the entries that a crash can lose
	pageBytes      = 128 << 10 // of details that a subscriber holds at once
	trimEvery      = 1000      // entries trimmed at once; so many more than keep may be in the archive
)

// The limits of one entry, those of PutEvents.
const (
	maxSource     = 255 // bytes; the archive has one byte for the length
	maxDetailType = 128 // bytes
)

// The errors of a refused entry or call.
var (
	errTooManyEntries = fmt.Errorf("a call may hold 1 to %d entries", stream.MaxEntries)
	errCallTooLarge   = fmt.Errorf("a call may hold %d bytes", stream.MaxCallBytes)
	errIncomplete     = fmt.Errorf("an entry needs a source, a detail, and a detail type of at most %d characters", maxDetailType)
)

var _ stream.Bus = (*bus)(nil)

// openBus opens the bus whose archive is in db and keeps so many entries, encrypted as in the log.
func openBus(db *pebble.DB, show showEvents, keep int) (_ *bus, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the bus: %w", err)
		}
	}()
	b := &bus{db: db, show: show, keep: uint64(keep), oldest: 1, changed: make(chan struct{})}
	if err := b.loadState(); err != nil {
		return nil, err
	}
	it, err := b.iterate(0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b.last = b.trimmed
	var oldest, newest busEntry
	if it.First() {
		if oldest, err = readEntry(it); err != nil {
			return nil, err
		}
		b.oldest = oldest.count
	}
	if it.Last() {
		if newest, err = readEntry(it); err != nil {
			return nil, err
		}
		b.last, b.count = newest.number, newest.count
	}
	return b, b.leap()
}

// leap makes the numbers of this start greater than all that were ever given, also to entries that a crash
// has lost. That must be durable before the first entry.
func (b *bus) leap() error {
	began, done, err := b.db.Get(busBeganKey)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return err
	default:
		if len(began) == 8 {
			b.last = max(b.last, binary.BigEndian.Uint64(began))
		}
		if err := done.Close(); err != nil {
			return err
		}
	}
	b.last += leap
	return b.db.Set(busBeganKey, binary.BigEndian.AppendUint64(nil, b.last), pebble.Sync)
}

// Publish implements [stream.Bus] with the limits of PutEvents.
func (b *bus) Publish(_ context.Context, entries []stream.Entry) ([]error, error) {
	if len(entries) == 0 || len(entries) > stream.MaxEntries {
		return nil, errTooManyEntries
	}
	size := 0
	for _, e := range entries {
		size += len(e.Source) + len(e.DetailType) + len(e.Detail) + 14 // bytes of its time
	}
	if size > stream.MaxCallBytes {
		return nil, errCallTooLarge
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	refused, err := b.append(entries)
	if err != nil {
		return nil, fmt.Errorf("put entries on the bus: %w", err)
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return refused, nil
}

func (b *bus) append(entries []stream.Entry) (refused []error, err error) {
	refused = make([]error, len(entries))
	batch := b.db.NewBatch()
	defer func() { _ = batch.Close() }()
	last, count := b.last, b.count
	for i, e := range entries {
		if e.Source == "" || len(e.Source) > maxSource || e.DetailType == "" || len(e.DetailType) > maxDetailType || len(e.Detail) == 0 {
			refused[i] = errIncomplete
			continue
		}
		last, count = last+1, count+1
		if err := batch.Set(entryKey(last), encodeEntry(count, e), nil); err != nil {
			return nil, err
		}
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return nil, err
	}
	b.last, b.count = last, count
	return refused, b.trim()
}

// trim deletes the oldest entries once there are enough of them to be worth it.
func (b *bus) trim() (err error) {
	if b.count+1-b.oldest < b.keep+trimEvery {
		return nil
	}
	it, err := b.iterate(b.trimmed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	trimmed, oldest := b.trimmed, b.oldest
	for ok := it.First(); ok; ok = it.Next() {
		e, err := readEntry(it)
		if err != nil {
			return err
		}
		if oldest = e.count; oldest+b.keep > b.count {
			break
		}
		trimmed = e.number
	}
	batch := b.db.NewBatch()
	defer func() { _ = batch.Close() }()
	if err := errors.Join(
		batch.DeleteRange(entryKey(0), entryKey(trimmed+1), nil),
		batch.Set(busStateKey, encodeState(b.id, trimmed), nil),
		batch.Commit(pebble.NoSync),
	); err != nil {
		return err
	}
	b.trimmed, b.oldest = trimmed, oldest
	return nil
}

// page is a part of the archive.
type page struct {
	entries []busEntry
	from    uint64          // the number after which it begins
	reset   bool            // not the number that was asked for: entries in between are gone
	more    <-chan struct{} // closed when there is more than when this was read
}

// read returns the entries after a number, at most limit, and none behind the one with which they pass
// pageBytes.
func (b *bus) read(after uint64, limit int) (p page, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	p = page{from: after, more: b.changed}
	if after < b.trimmed || after > b.last {
		p.from, p.reset = b.trimmed, true
	}
	it, err := b.iterate(p.from)
	if err != nil {
		return p, fmt.Errorf("read the bus: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	size := 0
	for ok := it.First(); ok && len(p.entries) < limit && size < pageBytes; ok = it.Next() {
		e, err := readEntry(it)
		if err != nil {
			return p, fmt.Errorf("read the bus: %w", err)
		}
		p.entries = append(p.entries, e)
		size += len(e.Detail)
	}
	return p, nil
}

// head returns the greatest number so far, and how many entries were ever put on the bus.
func (b *bus) head() (last, count uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.last, b.count
}

// The archive has a key for the state of the bus, one for its last start, and one for each entry:
//
//	b 00             version, id (16 bytes), the greatest number trimmed (8 bytes)
//	b 02             the number before the first of the last start (8 bytes)
//	b 01 <number, 8> version, count (8 bytes), time (8 bytes, Unix ms), source, detail type, detail
//
// Source and detail type stand behind their length in one byte.
var (
	busStateKey = []byte{busPrefix, 0}
	busBeganKey = []byte{busPrefix, 2}
)

const (
	entryKind  = 1
	busVersion = 1
)

var errBusDamaged = errors.New("archive of the bus is damaged")

func encodeState(id [16]byte, trimmed uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{busVersion}, id[:]...), trimmed)
}

// loadState reads the state of the bus; the first start makes it.
func (b *bus) loadState() error {
	state, done, err := b.db.Get(busStateKey)
	if errors.Is(err, pebble.ErrNotFound) {
		_, _ = rand.Read(b.id[:]) // never fails
		return b.db.Set(busStateKey, encodeState(b.id, 0), pebble.NoSync)
	}
	if err != nil {
		return err
	}
	defer func() { _ = done.Close() }()
	if len(state) != 1+len(b.id)+8 || state[0] != busVersion {
		return errBusDamaged
	}
	copy(b.id[:], state[1:])
	b.trimmed = binary.BigEndian.Uint64(state[1+len(b.id):])
	return nil
}

// busEntry is an entry in the archive.
type busEntry struct {
	number uint64 // greater than that of all entries before
	count  uint64 // 1 for the first ever put on this bus, 2 for the next and so on
	stream.Entry
}

func entryKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{busPrefix, entryKind}, number)
}

func encodeEntry(count uint64, e stream.Entry) []byte {
	value := append(make([]byte, 0, 19+len(e.Source)+len(e.DetailType)+len(e.Detail)), busVersion)
	value = binary.BigEndian.AppendUint64(value, count)
	value = binary.BigEndian.AppendUint64(value, uint64(e.Time.UnixMilli()))
	value = append(append(value, byte(len(e.Source))), e.Source...)
	value = append(append(value, byte(len(e.DetailType))), e.DetailType...)
	return append(value, e.Detail...)
}

// readEntry decodes the entry an iterator stands at.
func readEntry(it *pebble.Iterator) (busEntry, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return busEntry{}, err
	}
	if len(it.Key()) != len(entryKey(0)) || len(value) < 17 || value[0] != busVersion {
		return busEntry{}, errBusDamaged
	}
	e := busEntry{number: binary.BigEndian.Uint64(it.Key()[2:]), count: binary.BigEndian.Uint64(value[1:])}
	e.Time = time.UnixMilli(int64(binary.BigEndian.Uint64(value[9:]))).UTC()
	rest := value[17:]
	for _, text := range []*string{&e.Source, &e.DetailType} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return busEntry{}, errBusDamaged
		}
		*text, rest = string(rest[1:1+rest[0]]), rest[1+int(rest[0]):]
	}
	e.Detail = append(json.RawMessage(nil), rest...)
	return e, nil
}

// iterate goes over the entries after a number, as they are now.
func (b *bus) iterate(after uint64) (*pebble.Iterator, error) {
	return b.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(after + 1), UpperBound: []byte{busPrefix, entryKind + 1}})
}

// envelope is an entry as EventBridge delivers it.
type envelope struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// envelope wraps an entry as EventBridge does and decrypts it. The archive keeps it encrypted as the
// log does: what was erased or deleted since cannot be read here either. The id is a UUID, the same whenever the
// entry is read.
func (b *bus) envelope(ctx context.Context, region string, e busEntry) (envelope, error) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b.id[:], e.number))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: vendor specific
	sum[8] = sum[8]&0x3f | 0x80
	out := envelope{
		Version: "0", ID: fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]),
		DetailType: e.DetailType, Source: e.Source, Account: "000000000000", Time: e.Time.Format(time.RFC3339),
		Region: region, Resources: []string{}, Detail: e.Detail,
	}
	var sealed events.Event
	if !bytes.Contains(e.Detail, []byte(`{"sealed":"`)) || sealed.UnmarshalJSON(e.Detail) != nil {
		return out, nil
	}
	shown, err := b.show(ctx, sealed)
	if err != nil {
		return out, fmt.Errorf("decrypt an entry of the bus: %w", err)
	}
	if out.Detail, err = shown[0].MarshalJSON(); err != nil {
		return out, fmt.Errorf("encode an entry of the bus: %w", err)
	}
	if added := bytes.LastIndex(e.Detail, []byte(`,"published_by":`)); added > 0 { // behind the data
		out.Detail = append(out.Detail[:len(out.Detail)-1], e.Detail[added:]...)
	}
	return out, nil
}

// The pace of a subscription.
const (
	ssePage      = 200              // entries read at once; a slow subscriber holds no more
	sseKeepAlive = 15 * time.Second // between comments while there is nothing to send
	ssePatience  = 30 * time.Second // for one write to a slow subscriber
)

// subscribe answers GET /local/bus?region=&type=&after= with server-sent events. A subscriber resumes
// after the entry that the header Last-Event-ID names (a browser sends it when it reconnects) or
// ?after=; without either they get the entries from now on. type= picks detail types, "message.*" for
// a prefix.
func (c *control) subscribe(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for name := range query {
		if name != "region" && name != "type" && name != "after" {
			refuseInput(w, badField(name, "is not a parameter; the parameters are region, type and after"))
			return
		}
	}
	if query.Get("region") == "" {
		refuseInput(w, badField("region", "is required: one of "+c.names()))
		return
	}
	region := c.find(w, query.Get("region"))
	if region == nil {
		return
	}
	in, leave := region.enter()
	defer leave()
	if in == nil {
		region.refuseClosed(w, r)
		return
	}
	var types []string
	if query.Has("type") {
		types = strings.Split(strings.ReplaceAll(strings.Join(query["type"], ","), " ", ""), ",")
	}
	if slices.Contains(types, "") {
		refuseInput(w, badField("type", "must be an event type such as message.posted, or a prefix such as message.*"))
		return
	}
	after, _ := in.bus.head()
	field, text := "Last-Event-ID", r.Header.Get("Last-Event-ID")
	if text == "" {
		field, text = "after", query.Get("after")
	}
	if text != "" {
		var err error
		if after, err = strconv.ParseUint(text, 10, 63); err != nil {
			refuseInput(w, badField(field, "must be the id of an event of this bus, a number; 0 is before all of them"))
			return
		}
	}
	if err := c.send(w, r, in, types, after); err != nil && r.Context().Err() == nil {
		region.logger.Info("a subscriber of the bus was dropped", "error", err)
	}
}

// send sends entries until the subscriber leaves, cannot be written to, or the process closes. It
// reads from the archive at the subscriber's own pace. A gap is announced by an event "reset" before
// the entries that follow it.
func (c *control) send(w http.ResponseWriter, r *http.Request, from *incarnation, types []string, after uint64) error {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	fmt.Fprintf(w, ": the bus of %s\n\n", from.name)
	out, enc := http.NewResponseController(w), json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	idle := time.NewTicker(sseKeepAlive)
	defer idle.Stop()
	for {
		p, err := from.bus.read(after, ssePage)
		if err != nil {
			return err
		}
		if err := out.SetWriteDeadline(time.Now().Add(ssePatience)); err != nil {
			return err
		}
		if p.reset {
			after = p.from
			fmt.Fprintf(w, "event: reset\nid: %d\ndata: {\"reason\":\"entries after the one you have are no longer in the archive\"}\n\n", after)
		}
		for _, e := range p.entries {
			if after = e.number; !wants(types, e.DetailType) {
				continue
			}
			envelope, err := from.bus.envelope(r.Context(), from.name, e)
			if err != nil { // the subscriber reconnects and resumes after what was sent
				return errors.Join(err, out.Flush())
			}
			fmt.Fprintf(w, "id: %d\nevent: %s\ndata: ", e.number, e.DetailType)
			if enc.Encode(envelope) != nil {
				fmt.Fprintln(w, "null") // its detail is not JSON; Parley puts no such entry on the bus
			}
			fmt.Fprintln(w)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if len(p.entries) > 0 {
			continue
		}
		select {
		case <-p.more:
		case <-idle.C:
			fmt.Fprint(w, ": nothing new\n\n")
		case <-c.closing:
			return nil
		case <-from.ctx.Done():
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}

// wants reports whether a subscriber to some types, or to all if there are none, gets a detail type. As
// with a rule for the source parley, replays go only to a subscriber that names their prefix.
func wants(types []string, detailType string) bool {
	replayed := strings.Contains(detailType, "/")
	for _, t := range types {
		prefix, wild := strings.CutSuffix(t, "*")
		if replayed == strings.Contains(t, "/") && (detailType == t || wild && strings.HasPrefix(detailType, prefix)) {
			return true
		}
	}
	return len(types) == 0 && !replayed
}
