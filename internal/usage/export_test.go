package usage

// SetMostHoles has the Counter give up holes sooner. Before it counts.
func (c *Counter) SetMostHoles(n int) { c.mostHoles = n }
