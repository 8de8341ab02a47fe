// Package clitest has the tests of the command line as a newcomer uses it: from
// scripts, from a shell, and at a terminal. It is a module of its own, so that
// what these tests need is in no user's go.sum.
package clitest
