package client

// Bound sets how many bytes an answer may have.
func (c *Client) Bound(most int64) { c.most = most }
