"""From a few recordings of one's own actions to labels: what skelfew-predict does."""
