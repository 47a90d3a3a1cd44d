from django.db import models


class Message(models.Model):
    id = models.BigAutoField(primary_key=True)
    customer = models.TextField()
    content = models.TextField()

    class Meta:
        db_table = "messages"
