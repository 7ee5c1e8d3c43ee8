// Package viewtest is the contract of [projections.Views] as a test suite, which every driver
// and every fake passes under -race.
//
// A driver's test calls [Run]. Tests of what stands on views use a [Model] where they need no
// real ones, and wrap any in [Faults] to see them fail: nothing stored, all stored, or some.
package viewtest
