package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// measureIdle takes what three regions cost that hold a conversation and have nothing to do.
func measureIdle(ctx context.Context, o options, bin *binaries, out io.Writer) error {
	p, err := bin.startLocal(ctx, filepath.Join(bin.dir, "idle"), 3)
	if err != nil {
		return err
	}
	defer p.stop()
	o.replay, o.url = "generated", p.global()
	if err := replay(ctx, o, io.Discard); err != nil {
		return err
	}
	if err := sleep(ctx, 5*time.Second); err != nil { // let compactions finish
		return err
	}
	const watch = 20 * time.Second
	before, _, err := p.usage()
	if err != nil {
		return err
	}
	if err := sleep(ctx, watch); err != nil {
		return err
	}
	after, rss, err := p.usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   three regions with 11,291 messages, idle: %.2f%% of a core, %d MB resident\n",
		100*(after-before).Seconds()/watch.Seconds(), rss>>20)
	return nil
}
