package client

import "context"

// tokens keeps the user's token until a server refuses it.
type tokens struct {
	ask  func(ctx context.Context) (string, error)
	lock chan struct{} // holds one while the token is read or asked for
	kept string
}

func newTokens(ask func(ctx context.Context) (string, error)) *tokens {
	return &tokens{ask: ask, lock: make(chan struct{}, 1)}
}

// get returns the token, or a new one if it is the one that was refused.
func (t *tokens) get(ctx context.Context, refused string) (string, error) {
	select {
	case t.lock <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-t.lock }()
	if t.kept != "" && t.kept != refused {
		return t.kept, nil
	}
	token, err := t.ask(ctx)
	if err != nil {
		return "", err
	}
	t.kept = token
	return token, nil
}

// forget says that the token is good no more.
func (t *tokens) forget() {
	t.lock <- struct{}{}
	t.kept = ""
	<-t.lock
}
