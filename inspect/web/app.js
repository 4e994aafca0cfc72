document.title = "braid";
