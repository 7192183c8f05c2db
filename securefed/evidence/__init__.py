"""Whether what a run left agrees with itself: asked before it is continued, audited, reported."""
