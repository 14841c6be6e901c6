"""Worker pools that decode videos and feed the teacher."""
