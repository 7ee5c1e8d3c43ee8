package pebbleview

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"parley/events/pebbledb"
	"parley/projections"
)

// A writer saves views and then, as a stream consumer does, its checkpoint. The power fails at
// any moment and spares any part of what was not synced: whatever checkpoint is found afterwards,
// all that was saved before it must be found too.
func TestPowerLoss(t *testing.T) {
	const writers, crashes = 4, 12
	files := vfs.NewCrashableMem()
	// Small memtables: the log is replaced, and tables are written, between one crash and the next.
	s := open(t, "views", pebbledb.Options{FS: files, MemTable: 64 << 10})
	defer closeStore(t, s)

	ctx, cancel := context.WithCancel(t.Context())
	progress := make(chan struct{}, writers)
	group, ctx := errgroup.WithContext(ctx)
	stop := sync.OnceValue(func() error {
		cancel()
		return group.Wait()
	})
	defer stop() // before the database is closed
	for w := range writers {
		group.Go(func() error {
			for step := uint64(1); ; step++ {
				if err := consume(s, w, step); err != nil {
					return err
				}
				select {
				case progress <- struct{}{}:
				case <-ctx.Done():
					return nil
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	var most uint64
	for range crashes {
		for range 10 + random.IntN(100) {
			<-progress
		}
		left := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
		most = max(most, checkCrash(t, left, writers))
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if most == 0 {
		t.Error("no crash left a checkpoint: the test has tried nothing")
	}
}

const perStep = 5

// consume saves the views of a step, each writer in a partition of its own, and its checkpoint.
func consume(s *store, writer int, step uint64) error {
	views := make([]projections.View, perStep)
	for i := range views {
		views[i] = projections.View{
			Key:  stepKey(writer, step, i),
			Body: fmt.Appendf(nil, "%d %d %0500d", step, i, step),
		}
	}
	counter := projections.View{Key: counterKey(writer), Version: int64(step - 1)}
	if err := s.Save(context.Background(), append(views, counter)...); err != nil {
		return err
	}
	return s.db.Set(checkpoint(writer), binary.BigEndian.AppendUint64(nil, step), pebble.NoSync)
}

func stepKey(writer int, step uint64, i int) projections.Key {
	return projections.Key{Partition: "step/" + strconv.Itoa(writer), Sort: fmt.Sprintf("%08d %d", step, i)}
}

func counterKey(writer int) projections.Key {
	return projections.Key{Partition: "counter/" + strconv.Itoa(writer), Sort: "counter"}
}

func checkpoint(writer int) []byte { return []byte("checkpoint/" + strconv.Itoa(writer)) }

// checkCrash opens what a crash left and returns the greatest checkpoint in it.
func checkCrash(t *testing.T, files vfs.FS, writers int) (most uint64) {
	t.Helper()
	s := open(t, "views", pebbledb.Options{FS: files})
	defer closeStore(t, s)
	for w := range writers {
		var step uint64
		if value, done, err := s.db.Get(checkpoint(w)); err == nil {
			step = binary.BigEndian.Uint64(value)
			done.Close()
		}
		most = max(most, step)
		counter, err := s.Get(t.Context(), counterKey(w))
		if err != nil {
			t.Fatal(err)
		}
		// The Save after the checkpoint may have survived, as a whole.
		saved := uint64(counter[0].Version)
		if saved != step && saved != step+1 {
			t.Fatalf("writer %d: checkpoint %d survived, its views are at %d", w, step, saved)
		}
		views, err := s.Query(t.Context(), "step/"+strconv.Itoa(w), projections.Range{Limit: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if uint64(len(views)) != saved*perStep {
			t.Fatalf("writer %d: found %d views of %d", w, len(views), saved*perStep)
		}
		for i, view := range views {
			if want := stepKey(w, uint64(i/perStep)+1, i%perStep); view.Key != want || view.Version != 1 {
				t.Fatalf("writer %d: got view %+v, want %+v", w, view.Key, want)
			}
		}
	}
	return most
}
