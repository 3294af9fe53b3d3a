"""Where an app runs, and so where its credentials come from: in a pod, or on its own."""
