from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Message",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("customer", models.TextField()),
                ("content", models.TextField()),
            ],
            {"db_table": "messages"},
        ),
        migrations.RunSQL(
            "SELECT autoembed.enable('messages', 'content')",
            reverse_sql="SELECT autoembed.disable('messages', drop_column => true)",
        ),
    ]
