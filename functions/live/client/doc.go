// Package client is a client of Parley that does it right.
package client
