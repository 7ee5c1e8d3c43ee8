// Package logtest is the contract of [events.Log] as a test suite, which every driver and every
// fake passes under -race.
//
// A driver's test calls [Run]. Tests of what stands on a log use a [Model] where they need no
// real one, and wrap any log in [Faults] to see it fail in both ways: nothing stored, or stored
// all the same.
package logtest
