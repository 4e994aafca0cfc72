package main

func openRemote(url string) (store, error) {
	return nil, usagef("--url %s: not available", url)
}
