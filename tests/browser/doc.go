// Package browser has the tests of the dashboard of zael serve in Chromium. It is a module of
// its own, so that no user of zael is bound to what drives the browser.
package browser
