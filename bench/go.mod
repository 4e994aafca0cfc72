module github.com/braidstream/braid/bench

go 1.26.0

replace github.com/braidstream/braid => ../
