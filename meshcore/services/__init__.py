"""Services: classes that the mesh keeps running, alone, in groups, or replicated."""
